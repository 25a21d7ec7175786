/* inherit.h: images that this program got from the one that started it. */
#ifndef IMGLOCK_INHERIT_H
#define IMGLOCK_INHERIT_H

/* Finds the descriptors that came through exec, and takes over: locks that came with them are adopted, images without
 * a lock are locked, locks whose image did not come are given back.  Ends the process with status 125, after one line,
 * when an inherited image may not be used: there is no open that could be refused.  Called once, before main. */
void inherit_images(void);

#endif

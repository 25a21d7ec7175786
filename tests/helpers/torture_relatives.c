/* torture_relatives.c: torture_relatives SECONDS SEED LIBRARY IMGLOCK DIRECTORY
 *
 * Families of processes open a few images, each other's and their own: helpers that are executed, children that inherit
 * descriptors and want more than those give, a dozen generations, daemons, processes that wait with the gate.  They are
 * killed at random.  Meanwhile one hand-over after the other is killed in the middle, and a liar writes garbage and
 * plausible lies over the records, and claims slots for them.  Exits 0 when the oracle (oracle.h) has seen nobody in
 * who should not be, and nobody refused who should not be. */
#include "oracle.h"

/* ---- what a process does -------------------------------------------------------------------------------- */

static int free_use(void)
{
    for (int i = 0; i < HELD; i++)
        if (atomic_load(&self->uses[i].state) == NOT_IN) return i;
    return -1;
}

static bool open_image(int image, bool writing, int more_flags)
{
    char name[16];
    const int which = free_use();
    if (which < 0) return false;
    struct use *use = &self->uses[which];
    use->image = image;
    use->writing = writing;
    use->description = atomic_fetch_add(&oracle->descriptions, 1) + 1;
    atomic_store(&use->state, WANTS_IN);
    const unsigned changes = atomic_fetch_add(&oracle->changes[image], 1) + 1;
    snprintf(name, sizeof name, "%d.img", image);
    const int flags = (writing ? O_RDWR : O_RDONLY) | more_flags;
    int descriptor = random_below(2) ? open(name, flags) : (int)syscall(SYS_openat, AT_FDCWD, name, flags);
    if (descriptor < 0) {
        judge_refusal(use, changes, errno);
        atomic_fetch_add(&oracle->refused, 1);
        changed(image);
        atomic_store(&use->state, NOT_IN);
        return false;
    }
    descriptors[which] = descriptor;
    if (writing) atomic_fetch_or(&self->written, UINT64_C(1) << image);
    atomic_store(&use->state, IN);
    changed(image);
    check_alone(use);
    struct judgement judgement = {.own = use};
    for_each_other(image, judge_one, &judgement);
    if (judgement.relatives) atomic_fetch_add(&oracle->beside_relatives, 1);
    atomic_fetch_add(&oracle->opened, 1);
    opened_here[opened_here_count++ % (sizeof opened_here / sizeof *opened_here)] = use->description;
    return true;
}

static void close_use(int which)
{
    struct use *use = &self->uses[which];
    if (atomic_load(&use->state) != IN) return;
    atomic_store(&use->state, LEAVES);
    if (random_below(2))
        close(descriptors[which]);
    else
        close_range((unsigned)descriptors[which], (unsigned)descriptors[which], 0);
    changed(use->image);
    atomic_store(&use->state, NOT_IN);
}

/* Ends with everything open, by itself or by a signal; whoever waits for it takes it off the table. */
static _Noreturn void end(void)
{
    for (int i = 0; i < HELD; i++) {
        if (atomic_load(&self->uses[i].state) != IN) continue;
        if (random_below(2))
            close_use(i);
        else
            atomic_store(&self->uses[i].state, LEAVES);
    }
    if (random_below(4) == 0) raise(SIGKILL);
    _exit(0);
}

static struct member *member_of(pid_t pid)
{
    for (struct member *member = oracle->members; member < oracle->members + MEMBERS; member++)
        if (atomic_load(&member->serial) && atomic_load(&member->pid) == pid) return member;
    return NULL;
}

/* What imglock handoff ends with where it refuses: one of the two ends is gone.  Nothing else here ends with it. */
enum { HANDOFF_REFUSED = 125 };

/* A process has been waited for.  It ended with 0 or by SIGKILL, or it was a hand-over whose ends were killed; anything
 * else is a failure of its own. */
static void note_end(pid_t pid, int status)
{
    struct member *member = member_of(pid);
    if (member) remove_member(member);
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == HANDOFF_REFUSED)) return;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return;
    atomic_store(&oracle->bad_status, status);
    atomic_fetch_add(&oracle->bad_ends, 1);
}

static void wait_for(pid_t pid)
{
    int status;
    if (pid > 0 && waitpid(pid, &status, 0) == pid) note_end(pid, status);
}

static void reap_children(void)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) note_end(pid, status);
}

/* How many there are of the group, those included that nobody has waited for yet. */
static int group_size(void)
{
    int size = 0;
    for (const struct member *member = oracle->members; member < oracle->members + MEMBERS; member++)
        size += atomic_load(&member->serial) && member->group == self->group;
    return size;
}

/* The entries of a child that is about to be forked: it will have all that we have. */
static struct member *prepare_child(void)
{
    if (self->generation >= GENERATIONS || group_size() >= MOST_IN_GROUP) return NULL;
    atomic_store(&self->preparing, true);
    struct member *child = add_member(self->group, self);
    if (!child) {
        atomic_store(&self->preparing, false);
        return NULL;
    }
    atomic_store(&child->written, atomic_load(&self->written));
    for (int i = 0; i < HELD; i++) {
        struct use *own = &self->uses[i], *theirs = &child->uses[i];
        if (atomic_load(&own->state) != IN) continue;
        theirs->image = own->image;
        theirs->writing = own->writing;
        theirs->description = own->description;
        atomic_fetch_or(&self->shared, UINT64_C(1) << own->image);
        atomic_fetch_or(&child->shared, UINT64_C(1) << own->image);
        atomic_store(&theirs->state, IN);
        changed(own->image);
    }
    return child;
}

static void become(struct member *member)
{
    self = member;
    atomic_store(&self->pid, getpid());
    random_state = random_state * 31 + (unsigned long)getpid() * 2 + 1;
}

/* 0 in the child, -1 when there is none. */
static pid_t fork_member(void)
{
    struct member *child = prepare_child();
    if (!child) return -1;
    const unsigned way = random_below(3);
    pid_t pid = way == 0 ? fork() : way == 1 ? _Fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        become(child);
        opened_here_count = 0; /* the parent's */
        return 0;
    }
    if (pid < 0) remove_member(child);
    atomic_store(&self->preparing, false);
    return pid;
}

/* Replaces the process: what is close-on-exec goes, the rest the program finds on the table. */
static _Noreturn void exec_self(const char *role, int number)
{
    char index[24], seed[24], numbers[12];
    for (int i = 0; i < HELD; i++)
        if (atomic_load(&self->uses[i].state) == IN && fcntl(descriptors[i], F_GETFD) & FD_CLOEXEC)
            atomic_store(&self->uses[i].state, LEAVES);
    snprintf(index, sizeof index, "%td", self - oracle->members);
    snprintf(seed, sizeof seed, "%lu", random_state | 1);
    snprintf(numbers, sizeof numbers, "%d", number);
    char held[HELD][12];
    for (int i = 0; i < HELD; i++) snprintf(held[i], sizeof held[i], "%d", descriptors[i]);
    execl("/proc/self/exe", "torture", role, oracle_path, index, seed, numbers, held[0], held[1], held[2], held[3],
          NULL);
    _exit(98);
}

static void after_exec(char **arguments)
{
    oracle_path = arguments[0];
    map_oracle();
    self = &oracle->members[atoi(arguments[1])];
    random_state = strtoul(arguments[2], NULL, 10);
    atomic_store(&self->executed, true);
    for (int i = 0; i < HELD; i++) {
        struct use *use = &self->uses[i];
        descriptors[i] = atoi(arguments[4 + i]);
        if (atomic_load(&use->state) != LEAVES) continue;
        changed(use->image);
        atomic_store(&use->state, NOT_IN);
    }
    atomic_store(&self->pid, getpid());
}

/* At the end of the run everybody leaves, and says so first: who comes a moment later meets nobody. */
static void leave_if_alone(void)
{
    if (!atomic_load(&oracle->stop) && kill(oracle->driver, 0) == 0) return;
    for (int i = 0; i < HELD; i++)
        if (atomic_load(&self->uses[i].state) == IN) atomic_store(&self->uses[i].state, LEAVES);
    _exit(0);
}

/* ---- the ordinary families ------------------------------------------------------------------------------ */

static int choose_image(void)
{
    switch (random_below(6)) {
    case 0:
    case 1:
    case 2:
        return OWN_IMAGE + self->group;
    case 3:
        return PAIR_IMAGE;
    default:
        return (int)random_below(CONTESTED);
    }
}

static void act(int steps);

enum { GENERATIONS_OF_LINE = 12 };

/* A line of generations, each of which opens the same image beside all before it and starts the next.  Nobody else ever
 * opens that image. */
static _Noreturn void lead_line(int left)
{
    pid_t child = 0;
    while (child == 0) {
        leave_if_alone();
        open_image(LINE_IMAGE + self->group, random_below(4) != 0, random_below(2) ? O_CLOEXEC : 0);
        if (left-- == 0) {
            atomic_fetch_add(&oracle->lines, 1);
            break;
        }
        child = fork_member();
        if (child == 0 && random_below(2)) exec_self("line", left);
    }
    wait_for(child);
    for (int i = 0; i < HELD; i++) close_use(i);
    _exit(0);
}

/* daemon(3) forks within libc, and the parent ends there. */
static void become_daemon(void)
{
    struct member *daemon_member = prepare_child();
    if (!daemon_member) return;
    for (int i = 0; i < HELD; i++)
        if (atomic_load(&self->uses[i].state) == IN) atomic_store(&self->uses[i].state, LEAVES);
    if (daemon(1, 1) < 0) _exit(96);
    become(daemon_member);
    opened_here_count = 0;
    atomic_fetch_add(&oracle->daemons, 1);
}

static void fork_one(void)
{
    pid_t child = fork_member();
    if (child) return;
    switch (random_below(4)) {
    case 0:
        exec_self("inside", 1 + (int)random_below(20));
    case 1:
        become_daemon();
        break;
    default:
        break;
    }
    act(1 + (int)random_below(30));
    end();
}

/* A child of ours, which may have children of its own, is killed: those come to the keeper.  Not while it forks, when
 * the table has an entry that may never be anybody's. */
static void kill_one(void)
{
    for (struct member *member = oracle->members; member < oracle->members + MEMBERS; member++) {
        const pid_t pid = atomic_load(&member->pid);
        if (!atomic_load(&member->serial) || member->group != self->group || pid <= 0 || parent_of(pid) != getpid())
            continue;
        int status = 0;
        kill(pid, SIGSTOP);
        if (waitpid(pid, &status, WUNTRACED) != pid) return;
        if (!WIFSTOPPED(status)) {
            note_end(pid, status);
        } else if (atomic_load(&member->preparing)) {
            kill(pid, SIGCONT);
        } else {
            atomic_store(&member->dying, true);
            kill(pid, SIGKILL);
            wait_for(pid);
        }
        return;
    }
}

/* steps < 0: until it is killed */
static void act(int steps)
{
    for (int step = 0; steps < 0 || step < steps; step++) {
        switch (random_below(16)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
            open_image(choose_image(), random_below(3) == 0, random_below(2) ? O_CLOEXEC : 0);
            break;
        case 5:
        case 6:
        case 7:
        case 8:
        case 9:
            close_use((int)random_below(HELD));
            break;
        case 10:
        case 11:
            if (random_below(3) == 0) fork_one();
            break;
        case 12:
            if (random_below(8) == 0) kill_one();
            break;
        case 13:
            /* A line needs a process that has nothing of the line's image, which is any but a line's own. */
            if (self->generation == 0 && random_below(4) == 0) {
                pid_t child = fork_member();
                if (child == 0) {
                    for (int i = 0; i < HELD; i++) close_use(i);
                    lead_line(GENERATIONS_OF_LINE);
                }
                wait_for(child);
            }
            break;
        default:
            reap_children();
            leave_if_alone();
            if (random_below(4) == 0) sleep_us(random_below(300));
            break;
        }
    }
}

/* Ends all children of this process, and those that come to it when their parents end, until there are none. */
static void kill_everybody(void)
{
    char path[64], list[65536];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)syscall(SYS_gettid));
    for (;;) {
        int descriptor = open(path, O_RDONLY | O_CLOEXEC), status;
        ssize_t length = read(descriptor, list, sizeof list - 1);
        close(descriptor);
        list[length > 0 ? length : 0] = '\0';
        char *at = list;
        for (long pid; (pid = strtol(at, &at, 10)) > 0;) kill((pid_t)pid, SIGKILL);
        pid_t ended = waitpid(-1, &status, 0);
        if (ended < 0 && errno == ECHILD) return;
        if (ended > 0) note_end(ended, status);
    }
}

static void end_group(int group)
{
    atomic_store(&oracle->dying[group], true);
    kill_everybody();
    for (struct member *member = oracle->members; member < oracle->members + MEMBERS; member++)
        if (atomic_load(&member->taken) == 1 + group) remove_member(member);
    atomic_store(&oracle->dying[group], false);
    atomic_fetch_add(&oracle->kills, 1);
}

/* Starts a program of the group's, wrapped. */
static pid_t start_member(const char *role, int number, int group, struct member *parent, const char *library)
{
    struct member *member = add_member(group, parent);
    if (!member) return -1;
    pid_t pid = fork();
    if (pid) {
        if (pid < 0) remove_member(member);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    become(member);
    setenv("LD_PRELOAD", library, 1);
    exec_self(role, number);
}

/* Keeps a family going: its first process, of which the others descend, for a while; then they all are killed at once.
 * Orphans come to the keeper, which waits for them. */
static void keep_group(int group, const char *library)
{
    while (!atomic_load(&oracle->stop)) {
        switch (random_below(4)) {
        case 0:
            setenv("IMGLOCK_WAIT", "0.02", 1);
            break;
        case 1:
            setenv("IMGLOCK_WAIT", "0.3", 1);
            break;
        default:
            unsetenv("IMGLOCK_WAIT");
            break;
        }
        /* A line of generations takes a second on a busy machine, longer than the other families live; it gets three.
         */
        const bool line = random_below(16) == 0;
        pid_t first = line ? start_member("line", GENERATIONS_OF_LINE, group, NULL, library)
                           : start_member("inside", -1, group, NULL, library);
        if (first < 0) _exit(95);
        for (unsigned rounds = line ? 600 : 5 + random_below(60); rounds && !atomic_load(&oracle->stop); rounds--) {
            if (line && kill(first, 0) < 0) break;
            sleep_us(5000);
            reap_children();
        }
        end_group(group);
    }
}

/* ---- hand-overs that are killed ------------------------------------------------------------------------- */

/* An end of a hand-over: has the image open, says so, and starts one helper after the other, which try to write to it.
 * That the ends have it is on the table as the pair's, since which of them it is only the lock can say. */
static _Noreturn void be_end(bool source)
{
    char name[16];
    snprintf(name, sizeof name, "%d.img", PAIR_IMAGE);
    if (!source) setenv("IMGLOCK_MODE", "inactive", 1);
    /* The library has read its settings at its start; a helper reads them anew. */
    while (open(name, O_RDWR | O_CLOEXEC) < 0) {
        leave_if_alone();
        sleep_us(500);
    }
    unsetenv("IMGLOCK_MODE");
    if (write(1, "r", 1) != 1) _exit(0);
    for (;;) {
        leave_if_alone();
        pid_t child = fork_member();
        if (child == 0) {
            /* A fork child of the destination is inactive as its parent is, and its opens go through. */
            if (!source || random_below(2)) exec_self("helper", 0);
            open_image(PAIR_IMAGE, true, O_CLOEXEC);
            sleep_us(random_below(1500));
            end();
        }
        wait_for(child);
        sleep_us(random_below(1000));
    }
}

static pid_t start_end(bool source, struct member *pair, const char *library)
{
    int ready[2];
    char byte;
    if (pipe2(ready, O_CLOEXEC) < 0) _exit(95);
    int before = dup(1);
    dup2(ready[1], 1);
    if (source)
        unsetenv("IMGLOCK_MODE");
    else
        setenv("IMGLOCK_MODE", "inactive", 1);
    pid_t pid = start_member("end", source, PAIR, pair, library);
    unsetenv("IMGLOCK_MODE");
    dup2(before, 1);
    close(before);
    close(ready[1]);
    ssize_t got = pid < 0 ? 0 : read(ready[0], &byte, 1);
    close(ready[0]);
    return got == 1 ? pid : -1;
}

static void hand_over(const char *imglock, pid_t from, pid_t to)
{
    char name[16], pid_text[2][12];
    snprintf(name, sizeof name, "%d.img", PAIR_IMAGE);
    snprintf(pid_text[0], sizeof pid_text[0], "%d", from);
    snprintf(pid_text[1], sizeof pid_text[1], "%d", to);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execl(imglock, "imglock", "handoff", name, "--from", pid_text[0], "--to", pid_text[1], NULL);
        _exit(98);
    }
    int status;
    const bool killed = random_below(4) != 0;
    if (killed) {
        sleep_us(500 + random_below(6000));
        kill(pid, SIGKILL);
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) atomic_fetch_add(&oracle->handoffs_killed, 1);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) atomic_fetch_add(&oracle->handed_over, 1);
}

/* One of two ends has the image, from when the source has opened it until both are killed. */
static void keep_pair(int group, const char *library, const char *imglock)
{
    while (!atomic_load(&oracle->stop)) {
        struct member *pair = add_member(group, NULL);
        if (!pair) _exit(95);
        atomic_fetch_add(&oracle->at_work[PAIR_IMAGE], 1);
        pid_t ends[2] = {start_end(true, pair, library), -1};
        pair->uses[0].image = PAIR_IMAGE;
        pair->uses[0].writing = true;
        pair->uses[0].description = 0;
        if (ends[0] > 0) {
            atomic_store(&pair->uses[0].state, IN);
            ends[1] = start_end(false, pair, library);
        }
        for (unsigned i = 0; ends[1] > 0 && i < 12 && !atomic_load(&oracle->stop); i++) {
            hand_over(imglock, ends[i % 2], ends[1 - i % 2]);
            if (random_below(3) == 0) hand_over(imglock, ends[i % 2], ends[1 - i % 2]);
            sleep_us(random_below(3000));
        }
        end_group(group);
        atomic_fetch_sub(&oracle->at_work[PAIR_IMAGE], 1);
        /* The others get the image, too. */
        sleep_us(random_below(30000));
    }
}

/* ---- the liar ------------------------------------------------------------------------------------------- */

enum { RECORD = 256, RECORDS_AT = 4096, SLOTS_AT = 1024 };

static uint32_t checksum(const char *record)
{
    uint64_t hash = 14695981039346656037u;
    for (int i = 13; i < RECORD; i += 8) {
        uint64_t word = 0;
        memcpy(&word, record + i, RECORD - i < 8 ? (size_t)(RECORD - i) : 8);
        hash = (hash ^ word) * 1099511628211u;
        hash ^= hash >> 32;
    }
    return (uint32_t)hash;
}

static unsigned long long start_of(pid_t pid)
{
    char path[32], stat[512];
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? 0 : read(descriptor, stat, sizeof stat - 1);
    if (descriptor >= 0) close(descriptor);
    if (length <= 0) return 0;
    stat[length] = '\0';
    const char *at = strrchr(stat, ')');
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    if (at) start = strtoull(at, NULL, 10);
    return start;
}

static void read_text(const char *path, char *text, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = descriptor < 0 ? 0 : read(descriptor, text, size - 1);
    if (descriptor >= 0) close(descriptor);
    text[length > 0 ? length : 0] = '\0';
}

/* pid 1; the driver and the keepers, from which everybody descends; anybody. */
static pid_t pid_to_lie_about(void)
{
    switch (random_below(3)) {
    case 0:
        return 1;
    case 1:
        return oracle->driver;
    default:
        break;
    }
    const pid_t pid = atomic_load(&oracle->members[random_below(64)].pid);
    return pid <= 1 ? oracle->driver : random_below(2) ? pid : parent_of(pid);
}

static void make_lie(char record[RECORD + 1])
{
    static const char *const modes[] = {"exclusive", "shared", "inactive", "force-share"};
    char boot[64], space[64], digits[17] = "", sum[9];
    read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    int count = 0;
    for (const char *at = boot; *at && count < 16; at++)
        if (*at != '-') digits[count++] = *at;
    ssize_t length = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[length > 0 ? length : 0] = '\0';
    const pid_t pid = pid_to_lie_about();
    int end =
        snprintf(record, RECORD + 1,
                 "sum=........ pid=%d start=%llu boot=%s pidns=%llu uid=0 mode=%s since=1790000000000 fd=%u "
                 "host=liar cmd=liar ",
                 pid, start_of(pid), digits, strtoull(space + 5, NULL, 10), modes[random_below(4)], random_below(600));
    memset(record + end, ' ', (size_t)(RECORD - end));
    record[RECORD - 1] = '\n';
    snprintf(sum, sizeof sum, "%08x", checksum(record));
    memcpy(record + 4, sum, 8);
}

/* Whatever a user may do who may write to a lock file, but for locking what is not his: writes records, claims slots.
 */
static void lie(const char *lock_directory, const char *name)
{
    char path[4200], record[RECORD + 1] = "";
    snprintf(path, sizeof path, "%s/%s", lock_directory, name);
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    const int slot = random_below(3) ? (int)random_below(8) : (int)random_below(512);
    switch (random_below(4)) {
    case 0: /* garbage */
        for (int i = 0; i < RECORD; i++) record[i] = (char)random_below(256);
        break;
    case 1: /* wiped */
        break;
    default:
        make_lie(record);
        break;
    }
    const int length = random_below(4) ? RECORD : (int)random_below(RECORD); /* torn */
    if (pwrite(descriptor, record, (size_t)length, RECORDS_AT + slot * RECORD) == length)
        atomic_fetch_add(&oracle->lies, 1);
    if (random_below(3) == 0) {
        struct flock claim = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = SLOTS_AT + slot, .l_len = 1};
        fcntl(descriptor, F_OFD_SETLK, &claim);
        sleep_us(random_below(3000));
    }
    close(descriptor);
}

static void tell_lies(const char *lock_directory)
{
    while (!atomic_load(&oracle->stop)) {
        char names[64 * 64];
        int count = 0;
        /* ".qemu-" 40 digits ".lock" */
        int directory = open(lock_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        char entries[8192];
        for (long got; (got = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0;)
            for (long at = 0; at < got;) {
                const unsigned short size = *(unsigned short *)(entries + at + 16);
                const char *name = entries + at + 19;
                if (strncmp(name, ".qemu-", 6) == 0 && count < 64) snprintf(names + 64 * count++, 64, "%s", name);
                at += size;
            }
        close(directory);
        for (int i = 0; count && i < 40; i++) {
            lie(lock_directory, names + 64 * random_below((unsigned)count));
            sleep_us(100 + random_below(400));
        }
        if (!count) sleep_us(1000);
    }
}

/* ---- the driver ----------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Who takes part, beside one another.  Each goes on until oracle->stop, and waits for its own children.  Programs that
 * open the images without the library get a row here, and enter themselves on the table as the others do. */
static const char *library, *imglock;

static void take_group(int number)
{
    keep_group(number, library);
}

static void take_pair(int number)
{
    keep_pair(number, library, imglock);
}

static void take_lies(int number)
{
    (void)number;
    tell_lies(getenv("IMGLOCK_DIR"));
}

static const struct part {
    int count;
    void (*take)(int number);
} parts[] = {
    {GROUPS, take_group},
    {PAIR + 1, take_pair}, /* number PAIR alone */
    {1, take_lies},
};

enum { MOST_MORE_SECONDS = 200 };

static pid_t start_part(const struct part *part, int number, unsigned long seed)
{
    pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    seed_random(seed * 1000 + (unsigned long)(part - parts) * 100 + (unsigned long)number);
    part->take(number);
    _exit(0);
}

static void print_result(unsigned long seed)
{
    printf("seed %lu: %ld opened, %ld of them beside relatives, %ld refused, %ld lines of generations, %ld daemons, "
           "%ld families killed, %ld handed over, %ld hand-overs killed, %ld lies, %d violations, %d wrong refusals\n",
           seed, oracle->opened, oracle->beside_relatives, oracle->refused, oracle->lines, oracle->daemons,
           oracle->kills, oracle->handed_over, oracle->handoffs_killed, oracle->lies, oracle->violations,
           oracle->wrong_refusals);
    if (oracle->violations) printf("the first violation: %s\n", oracle->first_violation);
    if (oracle->wrong_refusals) printf("the first wrong refusal: %s\n", oracle->first_wrong_refusal);
    if (oracle->bad_ends)
        printf("%d processes ended badly, the last with wait status %#x\n", oracle->bad_ends,
               (unsigned)oracle->bad_status);
}

/* A run in which nobody was let past a relative, or nobody was kept out, has tested nothing. */
static bool enough_happened(void)
{
    return oracle->opened >= 1000 && oracle->refused >= 100 && oracle->beside_relatives >= 100 && oracle->lines >= 5 &&
           oracle->daemons >= 5 && oracle->handed_over >= 5 && oracle->handoffs_killed >= 5 && oracle->lies >= 100;
}

static int drive(double seconds, unsigned long seed)
{
    pid_t pids[GROUPS + 2];
    int count = 0, status;
    for (int i = 0; i < IMAGES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.img", i);
        close(open(name, O_RDWR | O_CREAT, 0600));
    }
    int descriptor = open(oracle_path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (ftruncate(descriptor, sizeof *oracle) < 0) return 1;
    close(descriptor);
    map_oracle();
    oracle->driver = getpid();
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++)
        for (int number = parts[part].take == take_pair ? PAIR : 0; number < parts[part].count; number++)
            pids[count++] = start_part(&parts[part], number, seed);
    /* On a machine with much to do it takes longer until enough has happened. */
    const double last = now() + seconds;
    while (!atomic_load(&oracle->violations) &&
           (now() < last || (!enough_happened() && now() < last + MOST_MORE_SECONDS)))
        sleep_us(50000);
    atomic_store(&oracle->stop, true);
    for (int i = 0; i < count; i++) {
        if (waitpid(pids[i], &status, 0) == pids[i] && status == 0) continue;
        printf("a part ended with wait status %#x\n", (unsigned)status);
        oracle->bad_ends++;
    }
    print_result(seed);
    if (oracle->violations || oracle->wrong_refusals || oracle->bad_ends) return 1;
    if (enough_happened()) return 0;
    printf("too little happened\n");
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 10) {
        after_exec(argv + 2);
        const int number = atoi(argv[5]);
        if (strcmp(argv[1], "inside") == 0) act(number);
        if (strcmp(argv[1], "line") == 0) lead_line(number);
        if (strcmp(argv[1], "end") == 0) be_end(number);
        if (strcmp(argv[1], "helper") == 0) {
            open_image(PAIR_IMAGE, true, O_CLOEXEC);
            sleep_us(random_below(1500));
        }
        end();
    }
    if (argc != 6 || chdir(argv[5]) < 0) {
        fprintf(stderr, "usage: torture_relatives SECONDS SEED LIBRARY IMGLOCK DIRECTORY\n");
        return 2;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/oracle", argv[5]);
    oracle_path = path;
    library = argv[3];
    imglock = argv[4];
    return drive(atof(argv[1]), strtoul(argv[2], NULL, 10));
}

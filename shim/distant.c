#include "distant.h"

#include <linux/magic.h>
#include <stddef.h>
#include <stdint.h>

#include "sys.h"

const char *distant_name(long type)
{
    enum { GFS2 = 0x01161970 }; /* and those below: <linux/magic.h> has no names for them */
    switch ((uint32_t)type) {
    case NFS_SUPER_MAGIC:
        return "NFS";
    case SMB_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
        return "SMB";
    case V9FS_MAGIC:
        return "9P";
    case CEPH_SUPER_MAGIC:
        return "Ceph";
    case AFS_SUPER_MAGIC:
    case AFS_FS_MAGIC:
        return "AFS";
    case CODA_SUPER_MAGIC:
        return "Coda";
    case OCFS2_SUPER_MAGIC:
        return "OCFS2";
    case GFS2:
        return "GFS2";
    case FUSE_SUPER_MAGIC:
        return "FUSE";
    }
    return NULL;
}

bool distant_is(int descriptor)
{
    struct statfs about;
    return sys_fstatfs(descriptor, &about) == 0 && distant_name(about.f_type);
}

bool distant_shows_rows(int descriptor)
{
    struct statfs about;
    return sys_fstatfs(descriptor, &about) < 0 || (uint32_t)about.f_type != FUSE_SUPER_MAGIC;
}

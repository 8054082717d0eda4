/* Tries to mark a directory as one that hides what is below it, and files as deleted, with the marks that
 * overlayfs keeps: `mark DIRECTORY FILE...`. Says what worked. */
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

int main(int count, char **paths) {
    const char *names[] = {"trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.whiteout",
                           "user.overlay.whiteout", "trusted.overlay.redirect", "user.overlay.redirect"};
    for (int i = 1; i < count; i++)
        for (unsigned j = 0; j < sizeof names / sizeof *names; j++)
            if (setxattr(paths[i], names[j], j < 4 ? "y" : "/root", j < 4 ? 1 : 5, 0) == 0)
                printf("%s: %s\n", paths[i], names[j]);
    for (int i = 2; i < count; i++) {
        char kept[4096];
        snprintf(kept, sizeof kept, "%s.kept", paths[i]);
        if (rename(paths[i], kept) < 0) continue;
        if (mknod(paths[i], S_IFCHR, makedev(0, 0)) == 0) printf("%s: 0/0\n", paths[i]);
        rename(kept, paths[i]);
    }
    return 0;
}

"""The numbers of the system calls that the suite makes or allows, per architecture.

The numbers of x86_64 are those of `asm/unistd_64.h`, those of aarch64 of `asm-generic/unistd.h`; a test
compares both with the headers of Debian's `linux-libc-dev` and `linux-libc-dev-arm64-cross`. The
aarch64 column has been checked against the headers, not run.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A processor's way of making system calls.

    Args:
        name: as `uname -m` prints it.
        audit: the kernel's AUDIT_ARCH number, which a filter sees.
        numbers: system calls by name; what the architecture lacks is missing.
        other_abi_from: calls from this number on belong to another interface of the same architecture (x32).
        run: the suite's tests have been run on it.
    """

    name: str
    audit: int
    numbers: Mapping[str, int]
    other_abi_from: int | None
    run: bool


# name, x86_64, aarch64; "-" where the architecture has no such call
_TABLE = """
read                       0   63
write                      1   64
readv                     19   65
writev                    20   66
pread64                   17   67
pwrite64                  18   68
preadv                   295   69
pwritev                  296   70
preadv2                  327  286
pwritev2                 328  287
lseek                      8   62
close                      3   57
close_range              436  436
open                       2    -
openat                   257   56
creat                     85    -
stat                       4    -
lstat                      6    -
fstat                      5   80
newfstatat               262   79
statx                    332  291
access                    21    -
faccessat                269   48
faccessat2               439  439
readlink                  89    -
readlinkat               267   78
getcwd                    79   17
chdir                     80   49
fchdir                    81   50
getdents                  78    -
getdents64               217   61
mkdir                     83    -
mkdirat                  258   34
rmdir                     84    -
unlink                    87    -
unlinkat                 263   35
rename                    82    -
renameat                 264   38
renameat2                316  276
link                      86    -
linkat                   265   37
symlink                   88    -
symlinkat                266   36
ftruncate                 77   46
fallocate                285   47
fsync                     74   82
fdatasync                 75   83
flock                     73   32
utime                    132    -
utimes                   235    -
futimesat                261    -
utimensat                280   88
umask                     95  166
statfs                   137   43
fstatfs                  138   44
fadvise64                221  223
sendfile                  40   71
copy_file_range          326  285
getxattr                 191    8
lgetxattr                192    9
fgetxattr                193   10
listxattr                194   11
llistxattr               195   12
flistxattr               196   13
dup                       32   23
dup2                      33    -
dup3                     292   24
pipe                      22    -
pipe2                    293   59
fcntl                     72   25
ioctl                     16   29
poll                       7    -
ppoll                    271   73
select                    23    -
pselect6                 270   72
chmod                     90    -
fchmod                    91   52
fchmodat                 268   53
fchmodat2                452  452
chown                     92    -
lchown                    94    -
fchown                    93   55
fchownat                 260   54
brk                       12  214
mmap                       9  222
munmap                    11  215
mprotect                  10  226
mremap                    25  216
madvise                   28  233
msync                     26  227
rt_sigaction              13  134
rt_sigprocmask            14  135
rt_sigreturn              15  139
rt_sigpending            127  136
rt_sigsuspend            130  133
rt_sigtimedwait          128  137
sigaltstack              131  132
pause                     34    -
setitimer                 38  103
getitimer                 36  102
alarm                     37    -
restart_syscall          219  128
clock_gettime            228  113
clock_getres             229  114
clock_nanosleep          230  115
nanosleep                 35  101
gettimeofday              96  169
time                     201    -
times                    100  153
getrusage                 98  165
getpid                    39  172
getppid                  110  173
gettid                   186  178
getuid                   102  174
geteuid                  107  175
getgid                   104  176
getegid                  108  177
getresuid                118  148
getresgid                120  150
getgroups                115  158
getpgid                  121  155
getpgrp                  111    -
getsid                   124  156
capget                   125   90
getrlimit                 97  163
prlimit64                302  261
getpriority              140  141
uname                     63  160
sysinfo                   99  179
getcpu                   309  168
sched_yield               24  124
sched_getaffinity        204  123
getrandom                318  278
prctl                    157  167
personality              135   92
futex                    202   98
set_robust_list          273   99
rseq                     334  293
wait4                     61  260
waitid                   247   95
exit                      60   93
exit_group               231   94
clone                     56  220
clone3                   435  435
sendmsg                   46  211
recvmsg                   47  212
sendto                    44  206
recvfrom                  45  207
getsockname               51  204
getsockopt                55  209
seccomp                  317  277
landlock_create_ruleset  444  444
landlock_add_rule        445  445
landlock_restrict_self   446  446
capset                   126   91
unshare                  272   97
setns                    308  268
kcmp                     312  272
setgroups                116  159
mount                    165   40
umount2                  166   39
pivot_root               155   41
open_tree                428  428
move_mount               429  429
fsopen                   430  430
fsconfig                 431  431
fsmount                  432  432
mount_setattr            442  442
sethostname              170  161
setdomainname            171  162
"""


def _column(index: int) -> Mapping[str, int]:
    rows = (line.split() for line in _TABLE.strip().splitlines())
    return {row[0]: int(row[index]) for row in rows if row[index] != "-"}


X86_64 = Architecture("x86_64", 0xC000003E, _column(1), other_abi_from=0x40000000, run=True)
AARCH64 = Architecture("aarch64", 0xC00000B7, _column(2), other_abi_from=None, run=False)

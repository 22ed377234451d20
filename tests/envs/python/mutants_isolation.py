"""Mutants of the layers of isolation: limits, rights, Landlock, namespaces, the private root, the filter."""

from mutants import Mutant, in_, of

# --- limits, rights and files ---------------------------------------------------------------------------------

_LIMITS = in_("protections", "every_limit_is_set_for_good")
_CAPABILITIES = in_("isolation", "capabilities_alone_are_all_gone[root]")
_NO_PRIVILEGES = in_("isolation", "no_new_privs_alone[root]")
_LANDLOCK = in_("isolation", "landlock_alone_refuses_files[root]")
_OTHERS = in_("isolation", "landlock_alone_refuses_tcp_signals_and_abstract_sockets[root]")
_BY_LANDLOCK = in_(
    "protections", "nothing_is_run_or_changed_that_may_only_be_read_and_no_programs_sockets_and_devices_are_made"
)

RIGHTS = (
    *(
        Mutant("server/isolation/limits.py", f"        resource.RLIMIT_{line},\n", "", _LIMITS)
        for line in (
            *("DATA: limits.memory_bytes", "AS: limits.memory_bytes + _ADDRESS_SPACE", "CPU: limits.cpu_seconds"),
            *(
                "FSIZE: limits.file_bytes",
                "NOFILE: limits.open_files",
                "CORE: _CORE",
                "STACK: STACK",
                "MEMLOCK: 0",
                "MSGQUEUE: 0",
            ),
        )
    ),
    *of("server/isolation/limits.py", ("(kind, (value, value))", "(kind, (value, hard))", _LIMITS)),
    *of(
        "server/isolation/capabilities.py",
        ('    kernel.call("capset", ', '    kernel.call("capget", ', _CAPABILITIES),
        ("            kernel.prctl(_PR_CAPBSET_DROP, capability)\n", "            break\n", _CAPABILITIES),
        ("    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)\n", "    pass\n", _NO_PRIVILEGES),
    ),
    *of(
        "server/isolation/confinement.py",
        ("    limits.apply(", "    (", in_("isolation", "limits_alone_bound_memory_and_files[root]")),
        ("        capabilities.drop_all_but(", "        (", _CAPABILITIES),
        ("(capabilities.SYS_ADMIN,) if policy.layers.own_mounts else ()", "(capabilities.SYS_ADMIN,)", _CAPABILITIES),
        ("        capabilities.forbid_new_privileges()\n", "        pass\n", _NO_PRIVILEGES),
        ("    if policy.layers.landlock:\n", "    if False:\n", _LANDLOCK),
        (
            "    if policy.layers.seccomp:\n",
            "    if False:\n",
            in_("isolation", "the_filter_alone_refuses_network_processes_and_programs[root]"),
        ),
        (
            "private_root=policy.layers.namespaces",
            "private_root=True",
            in_("isolation", "allowed_calls_are_no_ways_round[root-no-namespaces]"),
        ),
    ),
    *of(
        "server/isolation/landlock.py",
        ("_READ = _READ_FILE | _READ_DIR\n", "_READ = _READ_FILE | _READ_DIR | _WRITE_FILE\n", _BY_LANDLOCK),
        ("_READ = _READ_FILE | _READ_DIR\n", "_READ = _READ_FILE | _READ_DIR | _EXECUTE\n", _BY_LANDLOCK),
        ("_WRITE = _READ | _WRITE_FILE |", "_WRITE = _EXECUTE | _READ | _WRITE_FILE |", _BY_LANDLOCK),
        ("_WRITE = _READ | _WRITE_FILE |", "_WRITE = _MAKE_SOCK | _READ | _WRITE_FILE |", _BY_LANDLOCK),
        ("_WRITE = _READ | _WRITE_FILE |", "_WRITE = _MAKE_CHAR | _READ | _WRITE_FILE |", _BY_LANDLOCK),
        ("_TCP = 0b11 ", "_TCP = 0b01 ", _OTHERS),
        ("_SCOPES = 0b11 ", "_SCOPES = 0b01 ", _OTHERS),
        ("_SCOPES = 0b11 ", "_SCOPES = 0b10 ", _OTHERS),
        ("3: _TRUNCATE, ", "", _LANDLOCK),
        ("rights &= _ON_FILES", "pass", _LANDLOCK),
    ),
)

# --- namespaces and the private root --------------------------------------------------------------------------

_REQUIRED = "USER | PROCESS | NETWORK | MOUNT | HOST_NAME | IPC"
_NEW = in_("protections", "every_namespace_is_a_new_one")
_NO_PROGRAMS = in_("own_process", "a_working_directory_holds_no_programs_and_no_devices")
_WITHIN = in_("isolation_machine", "a_private_root_is_read_only_and_nothing_lies_beneath_it")
_BOUNDED = in_("isolation", "a_working_directory_of_its_own_is_bounded_by_the_kernel[root]")
_HIDDEN = in_("isolation", "namespaces_alone_hide_the_host[root]")
_NOBODY = in_("isolation", "namespaces_alone_reach_nobody[root]")
_ANSWERS = in_("packages", "what_makes_the_answers_can_be_neither_imported_nor_read[auto]")

NAMESPACES = (
    *(
        Mutant(
            "server/isolation/namespaces.py", f"REQUIRED = {_REQUIRED}\n", f"REQUIRED = {_REQUIRED.replace(flag, '0')}\n", _NEW
        )
        for flag in ("PROCESS", "NETWORK", "HOST_NAME", "IPC")
    ),
    *of(
        "server/isolation/namespaces.py",
        (
            "    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)\n",
            "",
            in_("isolation_machine", "when_the_guardian_dies_all_die"),
        ),
        ("        os.setgroups([])\n", "        pass\n", _WITHIN),
        ("        kernel.call(name, _HOST_NAME, len(_HOST_NAME))\n", "        pass\n", _NOBODY),
    ),
    *of(
        "server/isolation/mounts.py",
        ("options, NOSUID | NODEV | NOEXEC)", "options, NODEV | NOEXEC)", _NO_PROGRAMS),
        ("options, NOSUID | NODEV | NOEXEC)", "options, NOSUID | NOEXEC)", _NO_PROGRAMS),
        ("options, NOSUID | NODEV | NOEXEC)", "options, NOSUID | NODEV)", _NO_PROGRAMS),
        ('f"size={megabytes}m,nr_inodes', 'f"nr_inodes', _BOUNDED),
        ("nr_inodes={inodes + 1},", "", _BOUNDED),
        ('    kernel.call("umount2", b".", _DETACH)\n', "", _WITHIN),
    ),
    *of(
        "server/isolation/private_root.py",
        ("read_only = mounts.READ_ONLY | ", "read_only = ", _HIDDEN),
        ("    mounts.make_read_only(stage)\n", "", _WITHIN),
        ("    for path in covered:\n        mounts.make_read_only(stage + path)\n", "", _WITHIN),
        ("    covered = [path for path in hidden if _lies_in(path, folders)]\n", "    covered = []\n", _ANSWERS),
        ("_WORK_MODE = 0o111 ", "_WORK_MODE = 0o711 ", _WITHIN),
        ("    mounts.unmount(path)\n", "", _WITHIN),
    ),
)

# --- the filter -----------------------------------------------------------------------------------------------

_LISTED = in_("isolation_filter", "what_is_allowed_is_what_is_written_out_for_the_attacks")
_FORK = in_("isolation_filter", "one_kind_of_fork_is_asked_of_the_supervisor_and_everything_else_refused")
_ARGUMENTS = in_("isolation_filter", "calls_that_depend_on_their_arguments")
_MEMORY = in_("isolation_filter", "memory_is_private_or_cannot_be_written")
_LATER = in_("isolation_filter", "memory_cannot_be_made_writable_or_special_afterwards")
_SOCKETS = in_("isolation_filter", "sockets_are_only_spoken_through")
_RARE = in_("isolation_filter", "rare_ways_of_common_calls_are_refused")
_SET_ID = in_("isolation_filter", "no_file_is_made_that_gives_rights")
_TRUNCATED = in_("isolation_filter", "what_is_not_opened_for_writing_is_not_truncated")
_ABI = in_("isolation_filter", "other_architectures_and_interfaces_kill_the_process")
_PRETENDED = in_("isolation_filter", "properties_of_files_are_changed_in_name_only")

FILTER = (
    *of(
        "server/isolation/allowlist.py",
        ("DEFAULT = errno_verdict(errno.EPERM)", "DEFAULT = ALLOW", _LISTED),
        ("set_robust_list rseq", "mount set_robust_list rseq", _LISTED),
        ("landlock_restrict_self\n", "landlock_restrict_self seccomp\n", _LISTED),
        ('    "clone3": errno_verdict(errno.ENOSYS),\n', '    "clone3": ALLOW,\n', _FORK),
        ("(*word(0, flags), *word(1, 0))", "word(0, flags)", _FORK),
        ("(*word(0, flags), *word(1, 0))", "word(1, 0)", _FORK),
        ("(Condition(0, (0,)), *word(2, 0))", "(Condition(0, (0,)),)", _ARGUMENTS),
        ("(Condition(0, (0,)), *word(2, 0))", "word(2, 0)", _ARGUMENTS),
        ("*word(1, _SIGKILL))", ")", _ARGUMENTS),
        ("_only((Condition(0, (0xFFFFFFFF,)),))", "ALLOW", _ARGUMENTS),
        ("_FIOCLEX)\n", "_FIOCLEX, 0x5412)\n", _ARGUMENTS),
        ("*(_F_DUPFD_CLOEXEC,", "*(_F_SETLK, _F_DUPFD_CLOEXEC,", _ARGUMENTS),
        ('"mprotect": _only((Condition(2, (0,), mask=_PROT_WRITE),)),', '"mprotect": ALLOW,', _LATER),
        ("_only((Condition(2, _ADVICE),))", "ALLOW", _LATER),
        ("            Condition(2, (0,), mask=_PROT_WRITE),\n        ),", "        ),", _MEMORY),
        (" | 0x100000\n", " | 0x100000 | 0x100\n", _MEMORY),
        ('"mremap": _moving(stack)', '"mremap": ALLOW', in_("isolation_filter", "the_stack_is_neither_moved_nor_enlarged")),
        ("(Condition(1, (_SOL_SOCKET,)), Condition(2, _SO_ASKED))", "(Condition(1, (_SOL_SOCKET,)),)", _SOCKETS),
        ("_MSG_HARMLESS = 0x2 |", "_MSG_HARMLESS = 0x1 | 0x2 |", _SOCKETS),
        ("_only((Condition(1, (0,)),)),  # the other", "ALLOW,  # the other", _RARE),
        ("_only((_no_bits_but(1, _O_NONBLOCK | _O_CLOEXEC),))", "ALLOW", _RARE),
        ("_only((Condition(4, (0, _RENAME_NOREPLACE, _RENAME_EXCHANGE)),))", "ALLOW", _RARE),
        ("= (0, 1, 3, 4, 5, 9, 10)", "= (0, 1, 3, 4, 5, 6, 9, 10)", _RARE),
        ("        (Condition(flags, (_O_CREAT,), mask=_O_CREAT), set_id),\n", "", _SET_ID),
        ("        (Condition(flags, (_O_TMPFILE,), mask=_O_TMPFILE), set_id),\n", "", _SET_ID),
        ("        (Condition(flags, truncating, mask=_O_TRUNC | _ACCESS),),\n", "", _TRUNCATED),
        ("chmod fchmod ", "fchmod ", _PRETENDED),
        (" flock\n", "\n", _PRETENDED),
    ),
    *of(
        "server/isolation/bpf.py",
        ("        (_RETURN, 0, 0, KILL),\n        (_LOAD", "        (_RETURN, 0, 0, ALLOW),\n        (_LOAD", _ABI),
        ("other_abi_from), (_RETURN, 0, 0, KILL)", "other_abi_from), (_RETURN, 0, 0, ALLOW)", _ABI),
    ),
    *of(
        "server/isolation/notifications.py",
        (
            "(0, _CONTINUE) if allow else (-errno.EPERM, 0)",
            "(0, _CONTINUE)",
            in_("isolation", "the_filter_alone_is_inherited_and_forks_are_asked_for_each_time[root]"),
        ),
    ),
)

ISOLATION = (*RIGHTS, *NAMESPACES, *FILTER)

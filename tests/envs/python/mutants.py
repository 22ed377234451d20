"""The mutants of the interpreter's isolation: each switches off one protection, and names the tests that must notice.

Keep the texts short: they must be in their file once, whatever else changes there.
"""

from dataclasses import dataclass
from pathlib import PurePath

TOOL = PurePath("arpo_envs/tools/python")


@dataclass(frozen=True)
class Mutant:
    """One change of the code.

    Args:
        file: below the tool's folder.
        old: text that is there once.
        new: what replaces it.
        tests: what is run, as for pytest.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def path(self) -> PurePath:
        """The file, from the checkout's root."""
        return TOOL / self.file


def _in(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"test_{file}.py::test_{test}" for test in tests)


def _of(file: str, *changes: tuple[str, str, tuple[str, ...]]) -> tuple[Mutant, ...]:
    return tuple(Mutant(file, *change) for change in changes)


# --- a session's own process ----------------------------------------------------------------------------------

_TIMERS = _in("own_process", "timers_end_with_their_cell[full]")
_BETWEEN = "nothing_of_a_cell_follows_what_is_done_between_cells[full-{}]"
_HANDS = _in("own_process", "a_session_holds_one_socket_and_nothing_else_of_the_servers[full]")
_OWN_FILES = _in("clone_files", "open_files_of_a_clone_lead_into_its_own_copies[full]")
_MESSAGES = _in("clone_files", "devices_and_standard_streams_carry_no_message_to_a_clone_or_another_episode[full]")
_DEATH = _in("protections", "who_dies_with_its_parent_is_killed_by_the_kernel")
_STORED_PATH = _in("clone_files", "a_path_stored_before_the_clone_never_leads_to_the_originals_file[full]")
_BUSY = _in("own_process", "a_busy_clone_ends_with_the_template_though_nobody_supervises_it")

PROCESS = (
    *_of(
        "server/cell.py",
        ("            signal.setitimer(timer, 0)\n", "            pass\n", _TIMERS),
        ("(signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)", "(signal.ITIMER_REAL,)", _TIMERS),
        ("(signal.ITIMER_REAL, signal.ITIMER_VIRTUAL,", "(signal.ITIMER_VIRTUAL,", _TIMERS),
        (
            "        signal.signal(signal.SIGALRM, self._interrupt)\n",
            "",
            _in("own_process", "the_time_limit_acts_again_in_the_next_cell[full-ignored]"),
        ),
        (
            "        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})\n",
            "",
            _in("own_process", "the_time_limit_acts_again_in_the_next_cell[full-blocked]"),
        ),
        ("        sys.settrace(None)\n", "", _in("own_process", _BETWEEN.format("settrace"))),
        ("        sys.setprofile(None)\n", "", _in("own_process", _BETWEEN.format("setprofile"))),
        (
            "            sys.setrecursionlimit(_RECURSION)\n",
            "            pass\n",
            _in("own_process", "the_lowest_recursion_limit_costs_only_the_cell_that_sets_it[full]"),
        ),
        (
            '        self.namespace["__builtins__"] = builtins\n',
            "",
            _in("cell", "what_a_cell_spoils_does_not_reach_the_next[__builtins__ = {}]"),
        ),
    ),
    *_of(
        "server/template.py",
        (
            "        del sys.modules[name]  # sessions cannot import this package",
            "        pass",
            _in("own_process", "sessions_have_nothing_of_the_servers_own_code[full]"),
        ),
        ("    os.close(tokens)\n", "", _HANDS),
        ("            os.close(listener)\n", "", _HANDS),
        ("        to_supervisor.close()\n", "        globals().update(kept=to_supervisor)\n", _HANDS),
        ("    quiet()  # the template's opening", "    # the template's opening", _MESSAGES),
    ),
    *_of(
        "server/zygote.py",
        ("        close_all_but({0, 1, 2, tokens, orders.fileno()})\n", "", _HANDS),
        ("    os.umask(0o077)\n", "", _in("own_process", "what_a_cell_makes_is_its_owners_whatever_the_host_masks[full]")),
    ),
    *_of(
        "server/hooks.py",
        (
            "    os.register_at_fork = posix.register_at_fork = register_at_fork\n",
            "",
            _in("python_tool", "random_numbers_are_equal_then_go_their_own_way[full]"),
        ),
    ),
    *_of(
        "server/child.py",
        (
            "    if _getppid() != parent:\n        _exit(0)\n",
            "",
            _in("protections", "who_has_another_parent_by_now_ends_at_once"),
        ),
        ("    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)\n", "", _DEATH),
        ("        die_with_parent(self.parent)\n", "", _BUSY),
        ("            detach(found, old, new)\n", "", _OWN_FILES),
        ("            self._narrow(self._branch)\n", "            pass\n", _STORED_PATH),
    ),
    *_of(
        "launch.py",
        (
            "env=ENVIRONMENT,",
            "env={**os.environ, **ENVIRONMENT},",
            _in("own_process", "the_environment_holds_nothing_of_the_hosts[full]"),
        ),
    ),
)

# --- who may fork, and who is a session -----------------------------------------------------------------------

_SESSION = _in("protections", "only_a_child_of_the_template_becomes_a_session")
_ORDER = _in("protections", "an_order_allows_one_fork_of_one_process_of_one_family")
_MEANT = _in("protections", "only_the_fork_that_was_meant_is_allowed")
_STRAYS = _in("protections", "what_comes_of_a_fork_that_was_given_up_is_killed_and_sessions_are_not")
_ENDS = "who_supervises_ends_with_its_host_and_with_its_template[{}]"
_KEEPS_ALL = _in("shares", "who_keeps_all_descriptors_gets_an_error_and_goes_on[no-namespaces-device]")
_NAMELESS = "files_without_a_name_count_for_the_working_directory[no-namespaces-{}]"

SUPERVISOR = (
    *_of(
        "server/supervisor.py",
        ("                window.source = None\n", "", _ORDER),
        ("window.family is family and window.source == pid", "window.source == pid", _ORDER),
        ("window.family is family and window.source == pid", "window.family is family", _ORDER),
        ("bool(asked.args[0] == FLAGS) and self._may_fork", "self._may_fork", _MEANT),
        (" and self._may_fork(family, asked.pid)", "", _MEANT),
        ("        if self.table.parent(pid) != self.template:\n", "        if False:\n", _SESSION),
        (
            "        if pid in self._processes:\n            return {",
            "        if False:\n            return {",
            _in("protections", "no_process_is_two_sessions"),
        ),
        ("            self._must_sweep = True\n", "", _STRAYS),
        ("            if pid not in self._processes:\n", "            if False:\n", _STRAYS),
        ("            if pid not in self._processes:\n", "            if True:\n", _STRAYS),
        (
            "                self.workdirs.remove(window.workdir)\n",
            "                pass\n",
            _in("protections", "the_folder_of_a_fork_that_was_given_up_is_removed_and_its_familys_is_not"),
        ),
        ("        self._watch(host, lambda events: self._stop())\n", "", _in("protections", _ENDS.format("host"))),
        (
            "        self._watch(self._template_pidfd, lambda events: self._stop())\n",
            "",
            _in("protections", _ENDS.format("template")),
        ),
        ("        kill_by(self._template_pidfd)\n", "", _in("protections", _ENDS.format("host"))),
        (
            "            _allow_files(pid, MOST_FILES + RESERVED_FILES)\n            if",
            "            if",
            _in("protections", "who_is_registered_may_have_few_descriptors"),
        ),
        ("                    _allow_files(window.before_cell, MOST_FILES)\n", "                    pass\n", _KEEPS_ALL),
        (
            "            _allow_files(pid, MOST_FILES + RESERVED_FILES)\n        branch",
            "            pass\n        branch",
            _KEEPS_ALL,
        ),
        ("usage.size + sum(nameless.values())", "usage.size", _in("shares", _NAMELESS.format("deleted"))),
        (
            "unknown = not self.workdirs.bounded and bool(",
            "unknown = bool() and bool(",
            _in("shares", _NAMELESS.format("mapped")),
        ),
        ('if kind == "clone" and branch.generation', "if False and branch.generation", _STORED_PATH),
        (
            " and branch.generation < _GENERATIONS",
            "",
            _in("clone_files", "forty_generations_of_clones_and_of_parked_ones[full]"),
        ),
    ),
    *_of("server/processes.py", ("and not kind.st_nlink", "and kind.st_nlink", _in("shares", _NAMELESS.format("deleted")))),
)

# --- what the host believes -----------------------------------------------------------------------------------

_FORGED = "a_forged_reply_is_not_believed[full-{}]"
_IMPOSSIBLE = "an_answer_that_no_cell_can_give_is_not_believed[full-{}]"
_LONG = _in("frames", "a_long_frame_is_refused_before_it_is_read")
_SENDER = _in("frames", "the_kernel_says_who_sends_and_only_the_first_may")
_FULL_DISK = _in("python_limits", "a_full_disk[no-namespaces-bytes]")

HOST = (
    *_of(
        "server/frames.py",
        ("        if length > self.limit:\n", "        if False:\n", _LONG),
        ("            if self.sender not in (None, sender):\n", "            if False:\n", _SENDER),
        ("SO_PASSCRED, 1)", "SO_PASSCRED, 0)", _SENDER),
        (
            "_ROOM if suspicious else _ROOM_WITH_FILES",
            "_ROOM_WITH_FILES",
            _in("frames", "a_suspicious_channel_takes_no_files_and_leaks_none"),
        ),
        ("        if not isinstance(message, dict):\n", "        if False:\n", _in("frames", "what_is_no_message_is_refused")),
        (
            "(socket.MSG_DONTWAIT if deadline is not None else 0)",
            "0",
            _in("frames", "who_does_not_read_cannot_block_the_sender"),
        ),
    ),
    *_of(
        "client.py",
        ('reply.get("nonce") != nonce or ', "", _in("python_limits", _FORGED.format("a reply without the nonce"))),
        (" or process.channel.waiting():", ":", _in("own_process", "an_answer_that_is_given_twice_is_not_believed[full]")),
        (
            "            if process.channel.waiting():\n",
            "            if False:\n",
            _in("own_process", "who_speaks_between_cells_is_lost[full]"),
        ),
        (", suspicious=True)", ", suspicious=False)", _in("python_tool", "nothing_is_run_again[full]")),
    ),
    *_of(
        "session.py",
        ("not isinstance(text, str) or ", "", _in("own_process", _IMPOSSIBLE.format("no text"))),
        ("len(text) > limit or ", "", _in("own_process", _IMPOSSIBLE.format("long"))),
        (' or error not in (None, "error", "timeout"):', ":", _in("own_process", _IMPOSSIBLE.format("another error"))),
        ("            if size > settings.disk_mb << 20 or", "            if", _FULL_DISK),
        (" or entries > settings.inodes:", ":", _in("python_limits", "a_full_disk[no-namespaces-files]")),
        (
            "        complaint = process.budget.complaint()\n",
            "        complaint = None\n",
            _in("python_limits", "memory_of_an_environment[full]"),
        ),
    ),
)

# --- working directories --------------------------------------------------------------------------------------

_CLOSED = _in("workdirs", "the_folders_above_are_closed_again")
_THROWN = _in("workdirs", "what_is_removed_is_moved_as_it_is_and_empty_folders_need_nobody")

FOLDERS = (
    *_of(
        "server/workdirs.py",
        ("CLOSED = 0o111\n", "CLOSED = 0o711\n", _CLOSED),
        ("        os.chmod(folder, CLOSED)\n", "        pass\n", _CLOSED),
        (
            "    flags = os.O_DIRECTORY | os.O_NOFOLLOW |",
            "    flags = os.O_DIRECTORY |",
            _in("workdirs", "a_link_in_the_place_of_the_folder_is_not_followed"),
        ),
        (
            "entry.is_dir(follow_symlinks=False)) for",
            "entry.is_dir()) for",
            _in("workdirs", "links_in_the_folder_are_removed_and_not_followed"),
        ),
        ('            os.rename(path, f"{self._trash.folder}/{token_hex(16)}")\n', "            remove_tree(path)\n", _THROWN),
        ("            self._trash.wake()\n", "", _THROWN),
        (
            "            return Usage(size, most + 1)\n",
            "            return Usage(size, entries)\n",
            _in("workdirs", "folders_below_the_longest_path_are_counted_and_removed"),
        ),
        (
            "                    if entries > most:\n                        break\n",
            "",
            _in("workdirs", "no_more_is_counted_than_a_working_directory_may_hold"),
        ),
    ),
    *_of(
        "server/folder.py",
        ("    fcntl.flock(lock, fcntl.LOCK_EX)\n", "", _in("protections", "a_server_that_lives_keeps_its_folder")),
    ),
    *_of(
        "server/remover.py",
        (
            "            die_with_parent(parent)\n",
            "",
            _in("server_life", "when_the_server_is_killed_all_sessions_end_and_say_so"),
        ),
    ),
)

# --- limits, rights and files ---------------------------------------------------------------------------------

_LIMITS = _in("protections", "every_limit_is_set_for_good")
_CAPABILITIES = _in("isolation", "capabilities_alone_are_all_gone[root]")
_NO_PRIVILEGES = _in("isolation", "no_new_privs_alone[root]")
_LANDLOCK = _in("isolation", "landlock_alone_refuses_files[root]")
_OTHERS = _in("isolation", "landlock_alone_refuses_tcp_signals_and_abstract_sockets[root]")
_BY_LANDLOCK = _in(
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
    *_of("server/isolation/limits.py", ("(kind, (value, value))", "(kind, (value, hard))", _LIMITS)),
    *_of(
        "server/isolation/capabilities.py",
        ('    kernel.call("capset", ', '    kernel.call("capget", ', _CAPABILITIES),
        ("            kernel.prctl(_PR_CAPBSET_DROP, capability)\n", "            break\n", _CAPABILITIES),
        ("    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)\n", "    pass\n", _NO_PRIVILEGES),
    ),
    *_of(
        "server/isolation/confinement.py",
        ("    limits.apply(", "    (", _in("isolation", "limits_alone_bound_memory_and_files[root]")),
        ("        capabilities.drop_all()\n", "        pass\n", _CAPABILITIES),
        ("        capabilities.forbid_new_privileges()\n", "        pass\n", _NO_PRIVILEGES),
        ("    if policy.layers.landlock:\n", "    if False:\n", _LANDLOCK),
        (
            "    if policy.layers.seccomp:\n",
            "    if False:\n",
            _in("isolation", "the_filter_alone_refuses_network_processes_and_programs[root]"),
        ),
        (
            "private_root=policy.layers.namespaces",
            "private_root=True",
            _in("isolation", "allowed_calls_are_no_ways_round[root-no-namespaces]"),
        ),
    ),
    *_of(
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
_NEW = _in("protections", "every_namespace_is_a_new_one")
_NO_PROGRAMS = _in("own_process", "a_working_directory_holds_no_programs_and_no_devices")
_WITHIN = _in("isolation_machine", "a_private_root_is_read_only_and_nothing_lies_beneath_it")
_BOUNDED = _in("isolation", "a_working_directory_of_its_own_is_bounded_by_the_kernel[root]")
_HIDDEN = _in("isolation", "namespaces_alone_hide_the_host[root]")
_NOBODY = _in("isolation", "namespaces_alone_reach_nobody[root]")
_ANSWERS = _in("packages", "what_makes_the_answers_can_be_neither_imported_nor_read[auto]")

NAMESPACES = (
    *(
        Mutant(
            "server/isolation/namespaces.py", f"REQUIRED = {_REQUIRED}\n", f"REQUIRED = {_REQUIRED.replace(flag, '0')}\n", _NEW
        )
        for flag in ("PROCESS", "NETWORK", "HOST_NAME", "IPC")
    ),
    *_of(
        "server/isolation/namespaces.py",
        (
            "    kernel.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)\n",
            "",
            _in("isolation_machine", "when_the_guardian_dies_all_die"),
        ),
        ("        os.setgroups([])\n", "        pass\n", _WITHIN),
        ("        kernel.call(name, _HOST_NAME, len(_HOST_NAME))\n", "        pass\n", _NOBODY),
    ),
    *_of(
        "server/isolation/mounts.py",
        ("options, NOSUID | NODEV | NOEXEC)", "options, NODEV | NOEXEC)", _NO_PROGRAMS),
        ("options, NOSUID | NODEV | NOEXEC)", "options, NOSUID | NOEXEC)", _NO_PROGRAMS),
        ("options, NOSUID | NODEV | NOEXEC)", "options, NOSUID | NODEV)", _NO_PROGRAMS),
        ('f"size={megabytes}m,nr_inodes', 'f"nr_inodes', _BOUNDED),
        ("nr_inodes={inodes + 1},", "", _BOUNDED),
        ('    kernel.call("umount2", b".", _DETACH)\n', "", _WITHIN),
    ),
    *_of(
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

_LISTED = _in("isolation_filter", "what_is_allowed_is_what_is_written_out_for_the_attacks")
_FORK = _in("isolation_filter", "one_kind_of_fork_is_asked_of_the_supervisor_and_everything_else_refused")
_ARGUMENTS = _in("isolation_filter", "calls_that_depend_on_their_arguments")
_MEMORY = _in("isolation_filter", "memory_is_private_or_cannot_be_written")
_LATER = _in("isolation_filter", "memory_cannot_be_made_writable_or_special_afterwards")
_SOCKETS = _in("isolation_filter", "sockets_are_only_spoken_through")
_RARE = _in("isolation_filter", "rare_ways_of_common_calls_are_refused")
_SET_ID = _in("isolation_filter", "no_file_is_made_that_gives_rights")
_TRUNCATED = _in("isolation_filter", "what_is_not_opened_for_writing_is_not_truncated")
_ABI = _in("isolation_filter", "other_architectures_and_interfaces_kill_the_process")
_PRETENDED = _in("isolation_filter", "properties_of_files_are_changed_in_name_only")

FILTER = (
    *_of(
        "server/isolation/allowlist.py",
        ("DEFAULT = errno_verdict(errno.EPERM)", "DEFAULT = ALLOW", _LISTED),
        ("set_robust_list rseq", "mount set_robust_list rseq", _LISTED),
        ("landlock_restrict_self\n", "landlock_restrict_self seccomp\n", _LISTED),
        ('    "clone3": errno_verdict(errno.ENOSYS),\n', '    "clone3": ALLOW,\n', _FORK),
        ("(*word(0, FORK_FLAGS), *word(1, 0))", "(*word(0, FORK_FLAGS),)", _FORK),
        ("(*word(0, FORK_FLAGS), *word(1, 0))", "word(1, 0)", _FORK),
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
        ('"mremap": _moving(stack)', '"mremap": ALLOW', _in("isolation_filter", "the_stack_is_neither_moved_nor_enlarged")),
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
    *_of(
        "server/isolation/bpf.py",
        ("        (_RETURN, 0, 0, KILL),\n        (_LOAD", "        (_RETURN, 0, 0, ALLOW),\n        (_LOAD", _ABI),
        ("other_abi_from), (_RETURN, 0, 0, KILL)", "other_abi_from), (_RETURN, 0, 0, ALLOW)", _ABI),
    ),
    *_of(
        "server/isolation/notifications.py",
        (
            "(0, _CONTINUE) if allow else (-errno.EPERM, 0)",
            "(0, _CONTINUE)",
            _in("isolation", "the_filter_alone_is_inherited_and_forks_are_asked_for_each_time[root]"),
        ),
    ),
)

MUTANTS = (*PROCESS, *SUPERVISOR, *HOST, *FOLDERS, *RIGHTS, *NAMESPACES, *FILTER)

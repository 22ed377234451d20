"""Mutants of the server and of the host's side of it: processes, forks, answers, shares, folders."""

from mutants import in_, of

# --- a session's own process ----------------------------------------------------------------------------------

_TIMERS = in_("own_process", "timers_end_with_their_cell[full]")
_BETWEEN = "nothing_of_a_cell_follows_what_is_done_between_cells[full-{}]"
_HANDS = in_("own_process", "a_session_holds_one_socket_and_nothing_else_of_the_servers[full]")
_OWN_FILES = in_("clone_files", "open_files_of_a_clone_lead_into_its_own_copies[full]")
_MESSAGES = in_("clone_files", "devices_and_standard_streams_carry_no_message_to_a_clone_or_another_episode[full]")
_DEATH = in_("protections", "who_dies_with_its_parent_is_killed_by_the_kernel")
_STORED_PATH = in_("clone_files", "a_path_stored_before_the_clone_never_leads_to_the_originals_file[full]")
_BUSY = in_("own_process", "a_busy_clone_ends_with_the_template_though_nobody_supervises_it")

PROCESS = (
    *of(
        "server/cell.py",
        ("            signal.setitimer(timer, 0)\n", "            pass\n", _TIMERS),
        ("(signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)", "(signal.ITIMER_REAL,)", _TIMERS),
        ("(signal.ITIMER_REAL, signal.ITIMER_VIRTUAL,", "(signal.ITIMER_VIRTUAL,", _TIMERS),
        (
            "        signal.signal(signal.SIGALRM, self._interrupt)\n",
            "",
            in_("own_process", "the_time_limit_acts_again_in_the_next_cell[full-ignored]"),
        ),
        (
            "        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})\n",
            "",
            in_("own_process", "the_time_limit_acts_again_in_the_next_cell[full-blocked]"),
        ),
        ("        sys.settrace(None)\n", "", in_("own_process", _BETWEEN.format("settrace"))),
        ("        sys.setprofile(None)\n", "", in_("own_process", _BETWEEN.format("setprofile"))),
        (
            "            sys.setrecursionlimit(_RECURSION)\n",
            "            pass\n",
            in_("own_process", "the_lowest_recursion_limit_costs_only_the_cell_that_sets_it[full]"),
        ),
        (
            '        self.namespace["__builtins__"] = builtins\n',
            "",
            in_("cell", "what_a_cell_spoils_does_not_reach_the_next[__builtins__ = {}]"),
        ),
    ),
    *of(
        "server/template.py",
        (
            "        del sys.modules[name]  # sessions cannot import this package",
            "        pass",
            in_("own_process", "sessions_have_nothing_of_the_servers_own_code[full]"),
        ),
        ("    os.close(tokens)\n", "", _HANDS),
        ("            os.close(listener)\n", "", _HANDS),
        ("        to_supervisor.close()\n", "        globals().update(kept=to_supervisor)\n", _HANDS),
        ("    quiet()  # the template's opening", "    # the template's opening", _MESSAGES),
    ),
    *of(
        "server/zygote.py",
        ("        close_all_but({0, 1, 2, tokens, orders.fileno()})\n", "", _HANDS),
        ("    os.umask(0o077)\n", "", in_("own_process", "what_a_cell_makes_is_its_owners_whatever_the_host_masks[full]")),
    ),
    *of(
        "server/hooks.py",
        (
            "    os.register_at_fork = posix.register_at_fork = register_at_fork\n",
            "",
            in_("python_tool", "random_numbers_are_equal_then_go_their_own_way[full]"),
        ),
    ),
    *of(
        "server/child.py",
        (
            "    if _getppid() != parent:\n        _exit(0)\n",
            "",
            in_("protections", "who_has_another_parent_by_now_ends_at_once"),
        ),
        ("    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)\n", "", _DEATH),
        ("        die_with_parent(self.parent)\n", "", _BUSY),
        ("            detach(found, old, new)\n", "", _OWN_FILES),
        ("            self._narrow(self._branch)\n", "            pass\n", _STORED_PATH),
        (
            "        self.channel.close()\n        self.channel",
            "        self.kept = self.channel\n        self.channel",
            _HANDS,
        ),
        ("        if child:\n            _close(file)\n", "        if child:\n", _HANDS),
    ),
    *of(
        "launch.py",
        (
            "env=ENVIRONMENT,",
            "env={**os.environ, **ENVIRONMENT},",
            in_("own_process", "the_environment_holds_nothing_of_the_hosts[full]"),
        ),
    ),
)

# --- who may fork, and who is a session -----------------------------------------------------------------------

_SESSION = in_("protections", "only_a_child_of_the_template_becomes_a_session")
_ORDER = in_("protections", "an_order_allows_one_fork_of_one_process_of_one_family")
_MEANT = in_("protections", "only_the_fork_that_was_meant_is_allowed")
_STRAYS = in_("protections", "what_comes_of_a_fork_that_was_given_up_is_killed_and_sessions_are_not")
_ENDS = "who_supervises_ends_with_its_host_and_with_its_template[{}]"
_KEEPS_ALL = in_("shares", "who_keeps_all_descriptors_gets_an_error_and_goes_on[no-namespaces-device]")
_NAMELESS = "files_without_a_name_count_for_the_working_directory[no-namespaces-{}]"

SUPERVISOR = (
    *of(
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
            in_("protections", "no_process_is_two_sessions"),
        ),
        ("            self._must_sweep = True\n", "", _STRAYS),
        ("            if pid not in self._processes:\n", "            if False:\n", _STRAYS),
        ("            if pid not in self._processes:\n", "            if True:\n", _STRAYS),
        (
            "                self.workdirs.remove(window.workdir)\n",
            "                pass\n",
            in_("protections", "the_folder_of_a_fork_that_was_given_up_is_removed_and_its_familys_is_not"),
        ),
        ("        self._watch(host, lambda events: self._stop())\n", "", in_("protections", _ENDS.format("host"))),
        (
            "        self._watch(self._template_pidfd, lambda events: self._stop())\n",
            "",
            in_("protections", _ENDS.format("template")),
        ),
        ("        kill_by(self._template_pidfd)\n", "", in_("protections", _ENDS.format("host"))),
        (
            "            _allow_files(pid, MOST_FILES + RESERVED_FILES)\n            if",
            "            if",
            in_("protections", "who_is_registered_may_have_few_descriptors"),
        ),
        ("                    _allow_files(window.before_cell, MOST_FILES)\n", "                    pass\n", _KEEPS_ALL),
        (
            "            _allow_files(pid, MOST_FILES + RESERVED_FILES)\n        branch",
            "            pass\n        branch",
            _KEEPS_ALL,
        ),
        ("usage.size + sum(nameless.values())", "usage.size", in_("shares", _NAMELESS.format("deleted"))),
        (
            "unknown = not self.workdirs.bounded and bool(",
            "unknown = bool() and bool(",
            in_("shares", _NAMELESS.format("mapped")),
        ),
        ('if kind == "clone" and branch.generation', "if False and branch.generation", _STORED_PATH),
        (
            "            kill_by(process.pidfd)\n\n    # ---",
            "            pass\n\n    # ---",
            in_("own_process", "a_cell_that_had_to_be_stopped_is_stopped[full]"),
        ),
        (
            "            self.workdirs.remove(process.workdir)\n",
            "            pass\n",
            in_("protections", "the_folder_of_a_session_goes_with_it_and_its_familys_with_the_last[False]"),
        ),
        (
            "            self.workdirs.remove_family(family.folder)\n            self._ended",
            "            self._ended",
            in_("protections", "the_folder_of_a_session_goes_with_it_and_its_familys_with_the_last[True]"),
        ),
        (
            " and branch.generation < _GENERATIONS",
            "",
            in_("clone_files", "forty_generations_of_clones_and_of_parked_ones[full]"),
        ),
    ),
    *of(
        "server/zygote.py",
        (
            '    if mode == "full" and lacking:\n',
            "    if False:\n",
            in_("without_landlock", "all_layers_are_refused_by_name_with_what_to_do[ENOSYS-root]"),
        ),
        (
            "    if missing and not unsafe:\n",
            "    if False:\n",
            in_("without_landlock", "without_namespaces_as_well_nothing_starts_unless_it_may_be_unsafe[ENOSYS-root]"),
        ),
    ),
    *of("server/processes.py", ("and not kind.st_nlink", "and kind.st_nlink", in_("shares", _NAMELESS.format("deleted")))),
)

# --- what the host believes -----------------------------------------------------------------------------------

_FORGED = "a_forged_reply_is_not_believed[full-{}]"
_IMPOSSIBLE = "an_answer_that_no_cell_can_give_is_not_believed[full-{}]"
_LONG = in_("frames", "a_long_frame_is_refused_before_it_is_read")
_SENDER = in_("frames", "the_kernel_says_who_sends_and_only_the_first_may")
_FULL_DISK = in_("python_limits", "a_full_disk[no-namespaces-bytes]")

HOST = (
    *of(
        "server/frames.py",
        ("        if length > self.limit:\n", "        if False:\n", _LONG),
        ("            if self.sender not in (None, sender):\n", "            if False:\n", _SENDER),
        ("SO_PASSCRED, 1)", "SO_PASSCRED, 0)", _SENDER),
        (
            "_ROOM if suspicious else _ROOM_WITH_FILES",
            "_ROOM_WITH_FILES",
            in_("frames", "a_suspicious_channel_takes_no_files_and_leaks_none"),
        ),
        ("        if not isinstance(message, dict):\n", "        if False:\n", in_("frames", "what_is_no_message_is_refused")),
        (
            "(socket.MSG_DONTWAIT if deadline is not None else 0)",
            "0",
            in_("frames", "who_does_not_read_cannot_block_the_sender"),
        ),
    ),
    *of(
        "client.py",
        ('reply.get("nonce") != nonce or ', "", in_("python_limits", _FORGED.format("a reply without the nonce"))),
        (" or process.channel.waiting():", ":", in_("own_process", "an_answer_that_is_given_twice_is_not_believed[full]")),
        (
            "            if process.channel.waiting():\n",
            "            if False:\n",
            in_("own_process", "who_speaks_between_cells_is_lost[full]"),
        ),
        (", suspicious=True)", ", suspicious=False)", in_("python_tool", "nothing_is_run_again[full]")),
    ),
    *of(
        "session.py",
        ("not isinstance(text, str) or ", "", in_("own_process", _IMPOSSIBLE.format("no text"))),
        ("len(text) > limit or ", "", in_("own_process", _IMPOSSIBLE.format("long"))),
        (' or error not in (None, "error", "timeout"):', ":", in_("own_process", _IMPOSSIBLE.format("another error"))),
        (
            "        self._discard(process)\n        self._process = checkpoint",
            "        self._process = checkpoint",
            in_("own_process", "a_cell_that_had_to_be_stopped_is_stopped[full]"),
        ),
        ("            if size > settings.disk_mb << 20 or", "            if", _FULL_DISK),
        (" or entries > settings.inodes:", ":", in_("python_limits", "a_full_disk[no-namespaces-files]")),
        (
            "        complaint = process.budget.complaint()\n",
            "        complaint = None\n",
            in_("python_limits", "memory_of_an_environment[full]"),
        ),
    ),
)

BUDGET = of(
    "budget.py",
    ("len(self._files) >= self.processes", "False", in_("python_limits", "number_of_interpreters_of_an_environment[full]")),
    ("if self._measured + files <= self.memory", "if True", in_("python_limits", "memory_of_an_environment[full]")),
    ("sum(self._files.values()) + (", "(", in_("shares", "files_of_twelve_clones_count_together_after_each_cell[full]")),
)

# --- working directories --------------------------------------------------------------------------------------

_CLOSED = in_("workdirs", "the_folders_above_are_closed_again")
_THROWN = in_("workdirs", "what_is_removed_is_moved_as_it_is_and_empty_folders_need_nobody")

FOLDERS = (
    *of(
        "server/workdirs.py",
        ("CLOSED = 0o111\n", "CLOSED = 0o711\n", _CLOSED),
        ("        os.chmod(folder, CLOSED)\n", "        pass\n", _CLOSED),
        (
            "    flags = os.O_DIRECTORY | os.O_NOFOLLOW |",
            "    flags = os.O_DIRECTORY |",
            in_("workdirs", "a_link_in_the_place_of_the_folder_is_not_followed"),
        ),
        (
            "entry.is_dir(follow_symlinks=False)) for",
            "entry.is_dir()) for",
            in_("workdirs", "links_in_the_folder_are_removed_and_not_followed"),
        ),
        ('            os.rename(path, f"{self._trash.folder}/{token_hex(16)}")\n', "            remove_tree(path)\n", _THROWN),
        ("            self._trash.wake()\n", "", _THROWN),
        (
            "            return Usage(size, most + 1)\n",
            "            return Usage(size, entries)\n",
            in_("workdirs", "folders_below_the_longest_path_are_counted_and_removed"),
        ),
        (
            "                    if entries > most:\n                        break\n",
            "",
            in_("workdirs", "no_more_is_counted_than_a_working_directory_may_hold"),
        ),
    ),
    *of(
        "server/folder.py",
        ("    fcntl.flock(lock, fcntl.LOCK_EX)\n", "", in_("protections", "a_server_that_lives_keeps_its_folder")),
    ),
    *of(
        "server/remover.py",
        (
            "            die_with_parent(parent)\n",
            "",
            in_("trash", "a_remover_that_is_busy_ends_with_the_server"),
        ),
    ),
)

SERVER = (*PROCESS, *SUPERVISOR, *HOST, *BUDGET, *FOLDERS)

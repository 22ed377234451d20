"""Mutants of the server and of the host's side of it: processes, forks, answers, shares, folders."""

from mutants import in_, of

# --- a session's own process ----------------------------------------------------------------------------------

_TIMERS = in_("own_process", "timers_end_with_their_cell[full]")
_NO_TIMER = in_("after_the_answer", "no_timer_is_set_any_more_when_an_order_comes[full]")
_BETWEEN = "nothing_of_a_cell_follows_what_is_done_between_cells[full-{}]"
_HANDS = in_("own_process", "a_session_holds_one_socket_and_nothing_else_of_the_servers[full]")
_OWN_FILES = in_("clone_files", "open_files_of_a_clone_lead_into_its_own_copies[full]")
_MESSAGES = in_("clone_files", "devices_and_standard_streams_carry_no_message_to_a_clone_or_another_episode[full]")
_DEATH = in_("protections", "who_dies_with_its_parent_is_killed_by_the_kernel")
_STORED_PATH = in_("clone_files", "a_path_stored_before_the_clone_never_leads_to_the_originals_file[no-namespaces]")
_EMPTY = in_("separation", "an_original_is_not_told_where_its_copy_is[full-]")
_BUSY = in_("own_process", "a_busy_clone_ends_with_the_template_though_nobody_supervises_it")

PROCESS = (
    *of(
        "server/cell.py",
        ("            _setitimer(timer, 0)\n", "            pass\n", _TIMERS),
        ("        for timer in _TIMERS:\n", "        for timer in _TIMERS[:1]:\n", _TIMERS),
        ("        for timer in _TIMERS:\n", "        for timer in _TIMERS[1:]:\n", _NO_TIMER),
        (
            "        _handle(_ALARM, self._interrupt)\n",
            "",
            in_("own_process", "the_time_limit_acts_again_in_the_next_cell[full-ignored]"),
        ),
        (
            "        _sigmask(_UNBLOCK, (_ALARM,))\n",
            "",
            in_("own_process", "the_time_limit_acts_again_in_the_next_cell[full-blocked]"),
        ),
        ("        _handle(_GOING_ON, _DEFAULT)", "        pass", in_("after_the_answer", "a_cell_does_not_notice[full]")),
        ("        _settrace(None)\n", "", in_("own_process", _BETWEEN.format("settrace"))),
        ("        _setprofile(None)\n", "", in_("own_process", _BETWEEN.format("setprofile"))),
        (
            "            _setrecursionlimit(_RECURSION)\n",
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
        (
            "    keep_own(ours.values())\n",
            "",
            in_("after_the_answer", "what_a_cell_replaces_spoils_nothing_of_the_sessions_own"),
        ),
        ("    os.close(tokens)\n", "", _HANDS),
        ("            os.close(listener)\n", "", _HANDS),
        ("        to_supervisor.close()\n", "        globals().update(kept=to_supervisor)\n", _HANDS),
        ("    quiet()  # the template's opening", "    # the template's opening", _MESSAGES),
    ),
    *of(
        "server/zygote.py",
        ("        close_all_but({0, 1, 2, tokens, orders.fileno(), maps})\n", "", _HANDS),
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
        ("    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)\n", "", _DEATH),
        ("        die_with_parent(self.parent)\n", "", _BUSY),
        ("            detach(self._inherited, original, workdir, [", "            ([", _OWN_FILES),
        ("            detach(found, self.workdir, None)\n", "", _MESSAGES),
        ('            _chdir("/")\n', "", _EMPTY),
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
        ("                window.is_used = True\n", "", _ORDER),
        ("window.family is family and window.source == pid", "window.source == pid", _ORDER),
        ("window.family is family and window.source == pid", "window.family is family", _ORDER),
        ("bool(asked.args[0] == self.workdirs.fork_flags) and self._may_fork", "self._may_fork", _MEANT),
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
            "        window = self._windows.pop(number)\n        self._leave(window.family)\n",
            "        window = self._windows.pop(number)\n",
            in_("protections", "the_folder_of_a_family_goes_with_its_last_fork_that_was_given_up_and_not_before[True]"),
        ),
        ("        self._watch(host, lambda events: self._stop())\n", "", in_("protections", _ENDS.format("host"))),
        (
            "        self._watch(self._template_pidfd, lambda events: self._stop())\n",
            "",
            in_("protections", _ENDS.format("template")),
        ),
        ("        kill_by(self._template_pidfd)\n", "", in_("protections", _ENDS.format("host"))),
        (
            "            _allow_files(pid, MOST_FILES + RESERVED_FILES)\n            process",
            "            process",
            in_("protections", "who_is_registered_may_have_few_descriptors"),
        ),
        ("                _allow_files(window.source, MOST_FILES)\n", "                pass\n", _KEEPS_ALL),
        (
            "            _allow_files(pid, MOST_FILES + RESERVED_FILES)\n        reply",
            "            pass\n        reply",
            _KEEPS_ALL,
        ),
        ("usage.size + sum(nameless.values())", "usage.size", in_("shares", _NAMELESS.format("deleted"))),
        (
            "unknown = not self.workdirs.bounded and bool(",
            "unknown = bool() and bool(",
            in_("shares", _NAMELESS.format("mapped")),
        ),
        ('if window.kind == "clone" and above.generation', "if False and above.generation", _STORED_PATH),
        (
            "            self.workdirs.remove(process.place)\n",
            "            pass\n",
            in_("protections", "the_folder_of_a_session_goes_with_it_and_its_familys_with_the_last[False]"),
        ),
        (
            "            self.workdirs.remove_family(family.folder)\n            self._ended",
            "            self._ended",
            in_("protections", "the_folder_of_a_session_goes_with_it_and_its_familys_with_the_last[True]"),
        ),
        (
            " and above.generation < _GENERATIONS",
            "",
            in_("clone_files", "forty_generations_of_clones_and_of_parked_ones[no-namespaces]"),
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
_COMPUTES = in_("after_the_answer", "a_cell_that_computes_on_is_undone[full-computes]")
_OBEYED_ONCE = in_("after_the_answer", "a_clone_is_an_order[full]")
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
        "orders.py",
        ('reply.get("nonce") != nonce or ', "", in_("python_limits", _FORGED.format("a reply without the nonce"))),
        (" or process.channel.waiting():", ":", in_("own_process", "an_answer_that_is_given_twice_is_not_believed[full]")),
        (
            "        if process.channel.waiting():\n",
            "        if False:\n",
            in_("own_process", "what_was_said_before_an_order_is_no_answer_to_it[full]"),
        ),
        (
            "    finally:\n        process.rest()\n",
            "    finally:\n        pass\n",
            in_(
                "after_the_answer", "a_session_its_checkpoint_a_clone_and_a_snapshot_are_stopped_while_they_have_no_order[full]"
            ),
        ),
        (
            "        if process.processor_time() > most:\n",
            "        if False:\n",
            in_("after_the_answer", "who_works_inside_an_order_is_undone_or_harmless[full-in the fork]"),
        ),
    ),
    *of(
        "client.py",
        (
            "            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)\n",
            "",
            in_("after_the_answer", "who_has_had_no_order_yet_is_stopped_as_well[full]"),
        ),
        (", suspicious=True)", ", suspicious=False)", in_("python_tool", "nothing_is_run_again[full]")),
    ),
    *of(
        "session.py",
        ("not isinstance(text, str) or ", "", in_("own_process", _IMPOSSIBLE.format("no text"))),
        ("len(text) > limit or ", "", in_("own_process", _IMPOSSIBLE.format("long"))),
        (' or error not in (None, "error", "timeout"):', ":", in_("own_process", _IMPOSSIBLE.format("another error"))),
        (
            "        self._server.discard(process)\n        self._process, self",
            "        self._process, self",
            in_("own_process", "a_cell_that_had_to_be_stopped_is_stopped[full]"),
        ),
        (
            "            if anonymous_size(process.pid) > before + _GROWING:\n",
            "            if False:\n",
            in_("after_the_answer", "memory_that_is_taken_after_the_answer[full-in a copy]"),
        ),
        ('(self._spare.take(), "as it was"),', '(None, ""),', _OBEYED_ONCE),
        (', (self._old.take(), "as before that cell")):', ",):", _COMPUTES),
        ("            self._old.put(old)\n", "            self._server.discard(old)\n", _COMPUTES),
        ("            if size > settings.disk_mb << 20 or", "            if", _FULL_DISK),
        (" or entries > settings.inodes:", ":", in_("python_limits", "a_full_disk[no-namespaces-files]")),
        (
            "        complaint = self._budget.room()\n",
            "        complaint = None\n",
            in_("python_limits", "memory_of_an_environment[full]"),
        ),
    ),
)

BUDGET = of(
    "budget.py",
    (
        "copying is not None and len(self._files) + self._places >= self.processes",
        "False",
        in_("python_limits", "number_of_interpreters_of_an_environment[full]"),
    ),
    (
        "            if len(self._files) + self._places >= self.processes:\n",
        "            if False:\n",
        in_("budget", "no_more_places_are_kept_than_there_are"),
    ),
    (
        "self._spares.pop(pid, None) is not None",
        "self._spares.get(pid) is not None",
        in_("budget", "a_spare_that_was_claimed_is_needed"),
    ),
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

"""Mutants of what keeps copies of sessions apart: what the supervisor looks at, mounts of their own, mappings, checkpoints."""

from mutants import in_, of

# --- what a copy may hold -------------------------------------------------------------------------------------

_DESCRIPTOR = in_("separation_alone", "a_descriptor_of_another_kind_is_seen")
_FILE = in_("separation_alone", "a_file_in_another_working_directory_is_seen")
_THIRD = in_("separation_alone", "a_file_of_a_third_working_directory_is_seen")
_MAPPING = in_("separation_alone", "a_mapping_of_the_originals_file_is_seen_where_there_are_files")
_ITS_ORIGINAL = in_("separation_alone", "an_original_with_a_copys_channel_or_files_is_seen")
_OPENING = in_("separation_alone", "one_opening_of_both_is_seen")
_RUNS = in_("separation_alone", "what_is_seen_of_somebody_who_runs_does_not_count")
_RESTS = in_("separation_alone", "who_computes_does_not_rest_and_who_has_run_is_not_as_before")
_REFUSED = in_("protections", "a_copy_that_is_not_separate_is_refused_and_killed")
_CHECKPOINT = in_("protections", "a_checkpoint_is_looked_at_before_it_takes_its_originals_place")
_KEPT = in_("separation", "a_checkpoint_that_kept_something_does_not_take_its_originals_place")

SEPARATION = (
    *of(
        "server/separation.py",
        ("            if not self._is_harmless(file, copy):\n", "            if False:\n", _DESCRIPTOR),
        ("            return file.kind.st_ino == copy.channel\n", "            return True\n", _DESCRIPTOR),
        ("            return file.kind.st_rdev in HARMLESS\n", "            return True\n", _DESCRIPTOR),
        ("(stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)) and not", "not", _DESCRIPTOR),
        (" and not self._is_foreign(\n            file, copy.place, copy.inherited\n        )", "", _FILE),
        (
            "            return inside and (place is None or not f",
            "            return False and (place is None or not f",
            _FILE,
        ),
        ("        return inside and (place is None or device", "        return False and (place is None or device", _THIRD),
        (
            'f"{file.path}/".startswith(f"{place.path}/")',
            "file.path.startswith(place.path)",
            _THIRD,
        ),
        (
            "        if inherited is not None and device == inherited.device:\n",
            "        if False:\n",
            in_("separation_alone", "a_file_whose_mount_is_gone_is_known_by_its_file_system"),
        ),
        (', "cwd"):\n', ",):\n", in_("separation_alone", "the_working_directory_counts_as_well")),
        (
            "inside and (place is None or device != place.device)",
            "inside and place is not None and device != place.device",
            in_("separation_alone", "who_has_no_working_directory_yet_may_be_in_none[own mounts]"),
        ),
        ("        if files and self._has_foreign_mappings(copy):\n", "        if False:\n", _MAPPING),
        ("            return not all(own and ", "            return False and not all(own and ", _MAPPING),
        ('        return f" {os.major(', '        return False and f" {os.major(', _MAPPING),
        ("theirs.kind.st_ino != original.channel:", "False:", _ITS_ORIGINAL),
        ("            if self._is_foreign(theirs, original.place, None):\n", "            if False:\n", _ITS_ORIGINAL),
        ("            if any(self._is_shared(", "            if False and any(self._is_shared(", _OPENING),
        ("        if before != after:\n", "        if False:\n", _RUNS),
        ("            if None not in rests:\n", "            if True:\n", _RUNS),
        (
            "            time.sleep(_MOMENT)\n        raise Busy\n",
            "            time.sleep(_MOMENT)\n        return rests\n",
            _RUNS,
        ),
        (
            "            raise Busy from None\n",
            "            return None\n",
            in_("separation_alone", "somebody_who_closes_something_meanwhile_runs"),
        ),
    ),
    *of(
        "server/processes.py",
        ("[2] if state in _WAITING else None", "[2]", _RESTS),
        ('.partition("voluntary_ctxt_switches:")[2]', '.partition("voluntary_ctxt_switches:")[1]', _RESTS),
        (
            "                if len(text) > most:\n",
            "                if False:\n",
            in_("clone_mappings", "who_maps_thousands_of_pieces_is_not_cloned_and_is_told_why[full]"),
        ),
    ),
    *of(
        "server/supervisor.py",
        (
            '                kill_by(process.pidfd)\n                return {"failed"',
            '                return {"failed"',
            _REFUSED,
        ),
        ('complaint = f"it cannot be inspected ({error.strerror})"', "complaint = None", _REFUSED),
        (
            '                return {"separate": False}\n',
            '                return {"separate": True}\n',
            in_("protections", "of_a_copy_that_is_busy_nobody_says_that_it_is_separate"),
        ),
        ("copy=False)} | self._separate(process)", 'copy=False)} | {"separate": True}', _CHECKPOINT),
        ('{"place": None} | self._finish(pid)', '{"place": None, "separate": True}', _CHECKPOINT),
        (
            "files=self._had_files(process, original)",
            "files=False",
            in_("separation", "a_checkpoint_that_kept_a_mapping_does_not_take_its_originals_place"),
        ),
        (
            "return self.workdirs.bounded and self.workdirs.usage",
            "return False and self.workdirs.usage",
            in_("separation", "a_file_that_is_made_and_mapped_in_the_middle_of_a_fork_is_seen"),
        ),
    ),
    *of("server/zygote.py", ("    if place.layers is None or not place.layers.seccomp:\n", "    if True:\n", _KEPT)),
)

# --- mounts of a session's own --------------------------------------------------------------------------------

_MOUNTED = in_("separation", "a_copy_has_nothing_mounted_but_its_own_working_directory")
_SAME_PATH = in_("same_paths", "what_a_session_keeps_of_a_path_leads_a_copy_to_its_own_files[clone-an absolute path]")
_USELESS = in_("capability", "the_capability_is_the_only_one_and_of_no_use")
_KINDS = in_("isolation_filter", "one_kind_of_fork_is_asked_of_the_supervisor_and_everything_else_refused")

MOUNTS = (
    *of(
        "server/isolation/own_mounts.py",
        ("            elif not first:\n                mounts.unmount(self.path)\n", "", _MOUNTED),
        ("            mounts.unmount(self.aside)\n", "            pass\n", _MOUNTED),
        ("        mounts.make_read_only(root)\n", "", in_("separation", "the_folder_above_is_read_only")),
        (
            "    separate(USER | MOUNT, processes=processes)\n",
            "    pass\n",
            in_("capability", "a_session_cannot_say_that_it_is_another_process"),
        ),
    ),
    *of(
        "server/isolation/mounts.py",
        ("    make_read_only(aside)\n", "", in_("separation", "a_copy_cannot_write_to_what_it_copies")),
    ),
    *of(
        "server/isolation/confinement.py",
        (
            '        kernel.call("unshare", namespaces.MOUNT)\n',
            "        pass\n",
            in_("separation", "two_sessions_never_see_one_another_at_their_common_path"),
        ),
        ("(capabilities.SYS_ADMIN,) if", "(capabilities.SYS_ADMIN, 1) if", _USELESS),
        ("(capabilities.SYS_ADMIN,) if", "range(40) if", _USELESS),
    ),
    *of(
        "server/isolation/allowlist.py",
        ("getsockname landlock", "unshare setns getsockname landlock", _USELESS),
    ),
    *of(
        "server/places.py",
        ("    fork_flags = FLAGS_WITH_MOUNTS\n", "    fork_flags = FLAGS_WITH_MOUNTS & ~0x20000\n", _SAME_PATH),
    ),
    *of(
        "server/forking.py",
        ("FLAGS = _CLONE_PARENT | ", "FLAGS = ", _KINDS),
        ("FLAGS_WITH_MOUNTS = FLAGS | _CLONE_NEWNS\n", "FLAGS_WITH_MOUNTS = FLAGS\n", _KINDS),
    ),
)

# --- mappings -------------------------------------------------------------------------------------------------

_OWN_FILE = "a_mapping_of_a_copy_shows_the_copys_own_file[full-{}]"

MAPPINGS = (
    *of(
        "server/open_files.py",
        (
            "        if new is not None and mappings:\n",
            "        if False:\n",
            in_("clone_mappings", _OWN_FILE.format("mmap, shared")),
        ),
    ),
    *of(
        "server/supervisor.py",
        (
            "self.table.mapped(process.pid, inherited.path) if",
            "[] if",
            in_("clone_mappings", _OWN_FILE.format("mmap, shared")),
        ),
    ),
    *of(
        "server/mappings.py",
        (
            "{} if mapping.shared else _changed(mapping, file)",
            "{}",
            in_("clone_mappings", _OWN_FILE.format("mmap, private, changed")),
        ),
        (
            "                saved.add(path)\n",
            "",
            in_("clone_mappings", "a_mapped_file_without_a_name_is_copied_as_well[full-several parts of one file]"),
        ),
    ),
)

COPIES = (*SEPARATION, *MOUNTS, *MAPPINGS)

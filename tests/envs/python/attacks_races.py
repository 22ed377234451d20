"""Attacks that need the supervisor to be busy with their folders: they are fast, and it must not matter."""

from attacks import Attack, is_intact, ran, shows

RACES = (
    Attack(
        "beside_the_working_directory_while_others_are_made",
        # Clones are made meanwhile, so that the folder above may be open for a moment.
        """
here, done, end = os.getcwd(), [], time.monotonic() + 0.8
while time.monotonic() < end:
    for attempt in (
        lambda: os.mkdir("../planted"),
        lambda: os.rename(here, here + "x"),
        lambda: os.symlink(host["folder"], "../link"),
        lambda: os.listdir(".."),
    ):
        try:
            done.append(attempt())
        except OSError:
            pass
done""",
        shows("[]"),
        host=is_intact,
        meanwhile="clone",
    ),
    Attack(
        "links_in_a_folder_that_is_being_removed",
        # The original is closed meanwhile, whose folder the clone knows: what is removed there must not be what links lead to.
        """
end, round = time.monotonic() + 0.8, 0
while time.monotonic() < end:
    round += 1
    for number in range(50):
        folder = f"{place}/folder{number}"
        try:
            os.rename(folder, f"{folder}.{round}")
            os.symlink(host["folder"], folder)
        except OSError:
            pass""",
        ran,
        before="""
place = os.getcwd()
for number in range(50):
    os.mkdir(f"folder{number}")
    open(f"folder{number}/file", "w").write("x")""",
        host=is_intact,
        meanwhile="close",
    ),
)

"""pip itself, where the environment has it; its list, freeze and show where it has not."""
import runpy
import sys


def listed():
    import importlib.metadata
    found = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(name.lower(), distribution)
    return [found[name] for name in sorted(found)]


def show(distribution):
    for key in ("Name", "Version", "Summary", "Home-page", "License"):
        print(f"{key}: {distribution.metadata[key] or ''}")
    print(f"Location: {distribution.locate_file('')}")


def main(words):
    if words[:1] == ["list"]:
        width = max(len(one.metadata["Name"]) for one in listed())
        print(f"{'Package'.ljust(width)} Version\n{'-' * width} -------")
        for one in listed():
            print(one.metadata["Name"].ljust(width), one.version)
    elif words[:1] == ["freeze"]:
        for one in listed():
            print(f"{one.metadata['Name']}=={one.version}")
    elif words[:1] == ["show"] and len(words) > 1:
        wanted = [one for one in listed() if one.metadata["Name"].lower().replace("_", "-") in
                  [word.lower().replace("_", "-") for word in words[1:]]]
        for one in wanted:
            show(one)
        return 0 if wanted else 1
    else:
        print("pip: the environment has no pip: install, list, freeze and show are what there is", file=sys.stderr)
        return 1
    return 0


sys.path.pop(0)  # this directory
try:
    import pip  # noqa: F401
except ImportError:
    sys.exit(main(sys.argv[1:]))
runpy.run_module("pip", run_name="__main__", alter_sys=True)

"""Build the documentation as a site that needs no network: ``python docs/site/build.py``.

Pages are laid out in ``build/pages`` and built into ``build/site``. A warning is an error: a link
or an anchor that leads nowhere, a page that is in no navigation, a docstring that cannot be read.
Look at the site with ``python -m http.server --directory build/site``, or open its ``index.html``.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "build", help="folder to build in")
    into = parser.parse_args().into
    sys.path[:0] = [str(HERE), str(ROOT)]  # this checkout's package, not another that is installed
    try:
        import furo  # noqa: F401 - named in conf.py, as is the next
        import myst_parser  # noqa: F401
        import pages
        from sphinx.cmd.build import build_main
    except ModuleNotFoundError as error:
        print(f"the site needs {error.name}: pip install -e '.[docs]'", file=sys.stderr)
        return 1

    source, site = into / "pages", into / "site"
    pages.write(source)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env", "--nitpicky"]
    places = ["-c", str(HERE), "-d", str(into / "doctrees"), str(source), str(site)]
    status = build_main(["-b", "html", *options, *places])
    if not status:
        print(f"the site is in {site}: python -m http.server --directory {site}")
    return status


if __name__ == "__main__":
    sys.exit(main())

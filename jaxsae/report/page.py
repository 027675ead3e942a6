"""What pages share: templates, their style, and the file they end up in."""

from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from jaxsae.errors import InputError, reraise_if_disk_full
from jaxsae.files import write_text
from jaxsae.paths import check_above
from jaxsae.progress import say


def page_template(name: str) -> jinja2.Template:
    """A template of this folder; names that it is not given are errors."""
    read = lambda name: resources.files("jaxsae.report").joinpath(name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def style() -> Markup:
    """The style sheet."""
    return Markup(resources.files("jaxsae.report").joinpath("style.css").read_text(encoding="utf-8"))


def output_file(output: str, directory: Path) -> Path:
    """The file to write: `output`, or report.html in `directory`.

    Raises:
      InputError: it is a directory, or below a file.
    """
    path = Path(output or directory / "report.html")
    check_above("--output=", path)
    if path.is_dir():
        raise InputError(f"--output={path}: is a directory; name a file, such as {path / 'report.html'}.")
    return path


def write_page(output: Path, page: str) -> Path:
    """Writes the page, whole or not at all, and says where."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, page)
    except OSError as error:
        reraise_if_disk_full(error, str(output))
        raise InputError(f"--output={output}: cannot be written ({error.strerror}).") from None
    say(f"wrote {output}")
    return output

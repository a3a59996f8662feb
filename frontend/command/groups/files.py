"""Files with settings."""

from reactor_run.frontend.command.options import Kind, parse_text
from reactor_run.frontend.command.table import Group, option


class FilesGroup(Group, key="files", title="Files with settings"):
    """Files with settings."""

    config: str = option(
        Kind("FILE", parse_text),
        "",
        "TOML file with settings. Its keys are the long flags without --.",
        shown_default="[tool.reactor-run] in pyproject.toml",
    )
    env_file: str = option(
        Kind("FILE", parse_text),
        "",
        "File with variables, as NAME=VALUE, for the app and for settings. The real environment "
        "wins. It needs python-dotenv.",
        shown_default="none",
    )

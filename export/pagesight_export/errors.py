"""What can go wrong in an export, said so that the operator knows the next step."""


class ExportError(Exception):
    """The command failed; its message is one line and says what to do next."""


class MissingPackageError(ExportError):
    """A package that this export needs is not installed."""


class SourceError(ExportError):
    """The source checkpoint is not what this export knows how to read."""


class BundleError(ExportError):
    """A bundle folder is absent, incomplete, changed, or answers wrongly."""

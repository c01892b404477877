"""Every error that Chainwright raises on purpose.

ChainwrightError            one clear line: what, where
├── ConfigError             fleet.toml or an option is wrong
├── NotFound                a disk, layer, object or file that was named is not there
├── Refused                 a hazard or a rule forbids it; `reason` is a stable code
├── PreconditionFailed      somebody else changed it first (409, 412)
│   └── Conflict            … or was about to, and may not have succeeded (409)
├── Transient               try again: time-outs, 5xx, throttling
├── Permanent               the store or a tool said no: trying again is of no use
└── OutcomeUnknown          a write may or may not have happened and cannot be read back: delete nothing
"""


class ChainwrightError(Exception):
    """Root. `str(error)` is the line shown to a person."""


class ConfigError(ChainwrightError):
    """The configuration names something impossible."""


class NotFound(ChainwrightError):
    """A named thing does not exist."""


class Refused(ChainwrightError):
    """A rule or hazard forbids the operation.

    `reason` is a stable lower_snake code (for SQL, receipts and the UI); the text says what and where.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text


class PreconditionFailed(ChainwrightError):
    """A conditional write lost: the object was created or changed by another."""


class Conflict(PreconditionFailed):
    """Refused because another write was under way (AWS: 409). That one may have come to nothing: look, try again."""


class Transient(ChainwrightError):
    """Worth another try."""


class Permanent(ChainwrightError):
    """Not worth another try."""


class OutcomeUnknown(ChainwrightError):
    """A write's outcome could not be learnt, not even by reading back. Nothing may be deleted on this basis."""

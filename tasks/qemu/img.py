"""qemu-img, one function per subcommand: explicit formats, JSON output, accepted images only.

No function follows a backing name that a header carries unless its docstring says so: `check` and `info` open the image
alone. qemu-img's own words are kept in the errors of tasks.qemu.process.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.errors import Permanent
from tasks.qemu import guard
from tasks.qemu.accepted import AcceptedImage, Format
from tasks.qemu.process import DEFAULT_LIMITS, Limits, Sandbox, run

CHECK_LEAKS = 3  # exit code of `check`: leaked clusters only
COMPARE_DIFFERENT = 1


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What `qemu-img check` found. Counts of clusters; `image_end` in bytes."""

    corruptions: int
    leaks: int
    check_errors: int
    image_end: int

    @property
    def clean(self) -> bool:
        """No error and no leak."""
        return not (self.corruptions or self.leaks or self.check_errors)


def version() -> str:
    """For receipts: `7.2.22`."""
    text = run(["qemu-img", "--version"], sandbox=Sandbox()).stdout.decode()
    return text.split("version ", 1)[1].split()[0]


def create(
    path: Path,
    size_bytes: int | None,
    *,
    backing: AcceptedImage | None = None,
    backing_name: str | None = None,
    options: dict[str, str | int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """A new empty qcow2. `backing_name` is written to the header as it is; the size is the backing's if not given."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if options:
        argv += ["-o", ",".join(f"{key}={value}" for key, value in options.items())]
    if backing is not None:
        argv += ["-F", backing.format, "-b", backing_name or backing.path.name]
    argv.append(str(path))
    if size_bytes is not None:
        argv.append(str(size_bytes))
    run(argv, sandbox=Sandbox(write=(path.parent,)), limits=limits, cwd=path.parent)


def create_overlay(
    path: Path, size_bytes: int, backing_name: str, cluster_size: int, *, limits: Limits = DEFAULT_LIMITS
) -> None:
    """A new empty qcow2 over a qcow2 of that name, which is not opened (`-u`) and need not be on this machine."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster_size}"]
    argv += ["-u", "-F", "qcow2", "-b", backing_name, str(path), str(size_bytes)]
    run(argv, sandbox=Sandbox(write=(path.parent,)), limits=limits, cwd=path.parent)


def info(image: AcceptedImage, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """`info` of the image alone."""
    argv = ["qemu-img", "info", "--output", "json", _alone(image)]
    return _json(run(argv, sandbox=_reading(image), limits=limits).stdout)


def check(image: AcceptedImage, *, limits: Limits = DEFAULT_LIMITS) -> CheckResult:
    """`check` of the image alone (it says nothing about the rest of a chain: hazard 20). Never repairs."""
    argv = ["qemu-img", "check", "--output", "json", _alone(image)]
    return _check_result(run(argv, sandbox=_reading(image), limits=limits, ok=(0, 2, CHECK_LEAKS)).stdout)


def check_guarded(folder: Path, export: str, *, limits: Limits = DEFAULT_LIMITS) -> CheckResult:
    """`check` of a guarded export alone."""
    argv = ["qemu-img", "check", "--output", "json", _blockdev(guard.blockdev(export))]
    sandbox = Sandbox(write=(folder,))
    return _check_result(run(argv, sandbox=sandbox, limits=limits, cwd=folder, ok=(0, 2, CHECK_LEAKS)).stdout)


def map_chain(image: AcceptedImage, *, limits: Limits = DEFAULT_LIMITS) -> list[dict[str, Any]]:
    """`map` through the backing names in the headers: only inside a private folder of accepted layers."""
    argv = ["qemu-img", "map", "--output", "json", "-f", image.format, image.path.name]
    found = run(argv, sandbox=_reading(image), limits=limits, cwd=image.path.parent).stdout
    return list(json.loads(found))


def compare(left: AcceptedImage, right: AcceptedImage, *, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Are both guest views equal, sizes included? Follows backing names in the private folder.

    Without `-s` qemu-img calls different sizes identical (hazard 20); with it, it calls equal content different where
    only the allocation differs, as after a rebase that dropped what the base holds. So sizes are compared apart.
    """
    if info(left, limits=limits)["virtual-size"] != info(right, limits=limits)["virtual-size"]:
        return False
    argv = ["qemu-img", "compare", "-q", "-f", left.format, "-F", right.format, str(left.path), str(right.path)]
    sandbox = Sandbox(write=tuple({left.path.parent, right.path.parent}))
    return run(argv, sandbox=sandbox, limits=limits, cwd=left.path.parent, ok=(0, COMPARE_DIFFERENT)).returncode == 0


def convert(
    image: AcceptedImage,
    target: Path,
    to: Literal["raw", "qcow2"],
    *,
    compressed: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """The whole guest view into one image without backing. Never with `-B` (hazard 2). Follows backing names."""
    argv = ["qemu-img", "convert", "-q", "-f", image.format, "-O", to]
    argv += ["-c"] if compressed else []
    argv += [str(image.path), str(target)]
    sandbox = Sandbox(write=tuple({image.path.parent, target.parent}))
    run(argv, sandbox=sandbox, limits=limits, cwd=image.path.parent)


def rebase(
    image: AcceptedImage, base_name: str | None, base_format: Format = "qcow2", *, limits: Limits = DEFAULT_LIMITS
) -> None:
    """Safe rebase inside one chain: afterwards `image` needs nothing between itself and the base.

    `base_name` must be spelled as in the chain's headers, and the image's folder is the working directory: otherwise
    QEMU silently compares the whole disk. Zeros stay zero clusters by detect-zeroes. None: no backing afterwards.
    """
    target = f"driver=qcow2,file.driver=file,file.filename={image.path.name.replace(',', ',,')},detect-zeroes=on"
    argv = ["qemu-img", "rebase", "-q", "--image-opts"]
    argv += ["-F", base_format, "-b", base_name] if base_name else ["-b", ""]
    run([*argv, target], sandbox=Sandbox(write=(image.path.parent,)), limits=limits, cwd=image.path.parent)


def rebase_guarded(
    folder: Path, top: str, base: str, base_format: Format = "qcow2", *, limits: Limits = DEFAULT_LIMITS
) -> None:
    """`rebase` of one guarded export over another of the same chain (tasks.qemu.guard); the headers name guard URLs."""
    target = "driver=qcow2,file.driver=nbd,file.server.type=unix,detect-zeroes=on"
    target += f",file.server.path={guard.SOCKET},file.export={top}"
    argv = ["qemu-img", "rebase", "-q", "--image-opts", "-F", base_format, "-b", guard.url(base), target]
    run(argv, sandbox=Sandbox(write=(folder,)), limits=limits, cwd=folder)


def rebase_unsafe(
    image: AcceptedImage, base_name: str, base_format: Format = "qcow2", *, limits: Limits = DEFAULT_LIMITS
) -> None:
    """Rewrite the backing name only (hazard 3: the caller has proved that the new base is right)."""
    argv = ["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", base_format, "-b", base_name, str(image.path)]
    run(argv, sandbox=Sandbox(write=(image.path.parent,)), limits=limits, cwd=image.path.parent)


def _check_result(stdout: bytes) -> CheckResult:
    found = _json(stdout)
    return CheckResult(
        corruptions=int(found.get("corruptions", 0)),
        leaks=int(found.get("leaks", 0)),
        check_errors=int(found.get("check-errors", 0)),
        image_end=int(found.get("image-end-offset", 0)),
    )


def _alone(image: AcceptedImage) -> str:
    file = {"driver": "file", "filename": str(image.path)}
    return _blockdev(file) if image.format == "qcow2" else "json:" + json.dumps({"driver": "raw", "file": file})


def _blockdev(protocol: dict[str, Any]) -> str:
    return "json:" + json.dumps({"driver": "qcow2", "file": protocol, "backing": None})


def _reading(image: AcceptedImage) -> Sandbox:
    return Sandbox(read=(image.path.parent,))


def _json(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        raise Permanent(f"qemu-img printed no JSON: {raw[:200]!r}") from None
    if not isinstance(value, dict):
        raise Permanent(f"qemu-img printed no JSON object: {raw[:200]!r}")
    return value

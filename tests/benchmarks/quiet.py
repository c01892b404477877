"""Did other programs run beside a measurement? On two processors that is most of a benchmark's noise."""

import psutil


def seconds_of_others() -> float:
    """Processor seconds since the machine's start that neither this process nor any of its descendants spent."""
    spent, me = psutil.cpu_times(), psutil.Process()
    busy = spent.user + spent.nice + spent.system + spent.irq + spent.softirq
    return float(busy - sum(_seconds(one) for one in [me, *me.children(recursive=True)]))


def _seconds(process: psutil.Process) -> float:
    """Its own and those of its ended children."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0

"""How many files a process may hold open: one for every layer of a chain, and most systems begin with 1,024."""

import resource

OTHERS = 512  # connections, logs, libraries


def allow(count: int) -> None:
    """Raise this process's own limit so that `count` files fit beside all else, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHERS if hard == resource.RLIM_INFINITY else min(count + OTHERS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

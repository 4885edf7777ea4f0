"""Messages about the ranks of a run: the processes that train it together, one on each of its devices."""

import signal

from trainingapp.contract.messages import Message, define, gettext_noop, ngettext

EXIT_STATUS = define("rank_exit_status", gettext_noop("exit status %(status)d"))
EXIT_SIGNAL = define("rank_exit_signal", gettext_noop("signal %(number)d, %(name)s"))
RANK_LOST = define(
    "rank_lost",
    gettext_noop("Rank %(rank)d on %(device)s ended unexpectedly (%(exit)s). All ranks of the attempt were ended."),
)
RANKS_SILENT = define(
    "ranks_silent",
    gettext_noop("These ranks did not respond for %(seconds)d s: %(ranks)s. All ranks of the attempt were ended."),
)
RANKS_AWAY = define(
    "ranks_away",
    gettext_noop(
        "The connection to ranks on other hosts was lost, or they did not respond for %(seconds)d s: %(ranks)s. All "
        "ranks of the attempt were ended."
    ),
)
SHARE_LOST = define(
    "rank_share_lost",
    gettext_noop("The ranks on %(host)s ended unexpectedly (%(exit)s). All ranks of the attempt were ended."),
)
HOST_SILENT = define(
    "rank_host_silent",
    gettext_noop("The worker on %(host)s, which had ranks of the run, is lost. All ranks of the attempt were ended."),
)
HOSTS_UNREACHABLE = define(
    "rank_hosts_unreachable",
    gettext_noop(
        "For %(seconds)d s this host reached neither the database nor the ranks on other hosts. All ranks of the "
        "attempt were ended."
    ),
)
WORKER_LEAVES = define(
    "rank_worker_leaves",
    gettext_noop("The worker on %(host)s, which had ranks of the run, was stopped. The run waits for devices again."),
)
RANKS_DIFFER = define(
    "ranks_differ",
    gettext_noop(
        "The ranks have different weights at step %(step)d; nothing was saved. The run continues from its newest "
        "checkpoint. If it happens again, a device may compute wrongly, or the model keeps a state that is not shared."
    ),
)
NORM_CALLED_AGAIN = define(
    "rank_norm_called_again",
    gettext_noop(
        "The model uses a batch normalization layer several times for a batch, which several devices cannot repeat. "
        "Set device_count to 1."
    ),
)
FEWER_RANKS = define(
    "ranks_fewer",
    ngettext(
        "An optimizer step has %(count)d batch (accumulation_steps), so the run trains on %(count)d of its "
        "%(devices)d devices. Raise accumulation_steps and reduce batch_size to use all.",
        "An optimizer step has %(count)d batches (accumulation_steps), so the run trains on %(count)d of its "
        "%(devices)d devices. Raise accumulation_steps and reduce batch_size to use all.",
    ),
)
ONE_RANK_KEPT = define(
    "ranks_one_kept",
    gettext_noop(
        "The run began with an earlier version, which drew random numbers in the order of one device. It continues on "
        "one of its %(devices)d devices, so that its result does not change."
    ),
)
TOGETHER_EXACT = define(
    "ranks_together_exact",
    gettext_noop(
        "%(devices)d devices train the run together. Their gradients are added in the order of the batches: the result "
        "is bit-identical on any number of devices."
    ),
)
TOGETHER_FAST = define(
    "ranks_together_fast",
    gettext_noop(
        "%(devices)d devices train the run together. Their gradients are added in any order (reduction is fast): "
        "results differ in the last digits."
    ),
)
RANK_NOT_COMPILED = define(
    "rank_not_compiled", gettext_noop("another of its devices cannot compile the network, and all compute alike.")
)
STATISTICS_ROUNDED = define(
    "ranks_statistics_rounded",
    gettext_noop(
        "The device rounds running averages of batch normalization in an unknown way: on several devices they may "
        "differ from those on one in the last digits. Weights do not depend on them."
    ),
)


def exit_text(status: int) -> Message:
    """The exit status of a process; negative for the number of the signal that ended it."""
    if status >= 0:
        return EXIT_STATUS(status=status)
    return EXIT_SIGNAL(number=-status, name=signal.Signals(-status).name)

"""What workers say of a run when its trainer ends, and of its files; in English where the studio's language is that.

The texts are collected for translation where they stand in the supervisor, in housekeeping and in the jobs.
"""

from trainingapp.presentation.sentences.forms import Text

#: Whole sentences; several make a message.
SENTENCES: list[Text] = [
    # How an attempt ended
    "Completed.",
    "Stopped.",
    "Paused.",
    "Stopped by force.",
    "The studio was stopped; the run goes on at the next start.",
    "The trainer did not answer within %(seconds)d s and was ended.",
    "The hard time limit of %(hours)g h was reached: the trainer was ended at once.",
    "The time limit of %(hours)g h was reached: the run saved a checkpoint and stopped.",
    "It can be resumed.",
    "There is no checkpoint: resumed, it begins anew.",
    (
        "Resumed, it goes on from its checkpoint of step %(step)d; %(count)d step is made again.",
        "Resumed, it goes on from its checkpoint of step %(step)d; %(count)d steps are made again.",
    ),
    "The run goes on from its newest checkpoint (%(count)d of %(max)d times).",
    "The batch cannot be made any smaller.",
    ("It went on by itself %(count)d time already.", "It went on by itself %(count)d times already."),
    "batch_size %(old)d became %(new)d and accumulation_steps %(steps)d, because memory ran out.",
    # Why it failed
    "The trainer said nothing for more than %(minutes)g min and was ended: it hung.",
    "The worker on %(host)s was lost.",
    "The trainer was interrupted from outside.",
    "The disk is full. Free some space, then resume the run.",
    "Nothing can be written to the run's folder: its file system is read-only.",
    "The trainer was lost.",
    "The trainer ended because memory ran out (exit status %(code)d).",
    "The trainer was killed (SIGKILL), perhaps by the system because memory ran out.",
    "The trainer was ended by the signal %(name)s.",
    "The trainer ended without a word (exit status %(code)d).",
    "The trainer could not start.",
    # The log
    "events.jsonl was cut short by %(count)d bytes. What was stored of them stays.",
    "An earlier attempt still writes, on a host that was given up. Only attempt %(attempt)d is heard.",
    "%(count)d lines were left out here: they came faster than a log is kept.",
    "The order “%(command)s” was not carried out: the trainer had ended.",
    # Files
    "Checkpoint %(file)s is sound again.",
    "Checkpoint %(file)s %(wrong)s.",
    "These runs start from it: %(names)s.",
    "The weights “%(weights)s” that this run starts from: the file %(wrong)s.",
    "The file of the weights “%(weights)s” that this run starts from is sound again.",
    # Batches to look at, and jobs
    "Drawing the batch took more than %(seconds)d seconds.",
    "The batch could not be drawn.",
    "The worker was lost twice while it did this.",
    "The process ended without a word (exit status %(code)d).",
    "It took more than %(minutes)d minutes.",
    "The result could not be put in its place: %(error)s",
]
#: What stands in a sentence in the place of a value.
PARTS: list[Text] = [("a private run", "%(count)d private runs")]

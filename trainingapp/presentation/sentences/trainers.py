"""What trainers and other processes of the engine say."""

from django.utils.translation import gettext_noop

#: Whole lines and messages.
SENTENCES = [
    # The log
    gettext_noop("Attempt %(attempt)s starts on %(host)s."),
    gettext_noop("First step of this attempt done: step %(step)s."),
    gettext_noop("Going on from %(file)s, after step %(step)s."),
    gettext_noop("Stopped early: no better result since epoch %(epoch)s."),
    gettext_noop("Early stopping counts anew from epoch %(epoch)s: the run has more epochs now."),
    gettext_noop("Saved as %(file)s."),
    gettext_noop("Validated at step %(step)s: %(values)s."),
    gettext_noop("The validation of this step was just made: %(values)s."),
    gettext_noop("The run has %(epochs)s epochs."),
    gettext_noop("The run has %(epochs)s epochs now."),
    gettext_noop("The run has %(epochs)s epochs now. Epoch %(epoch)s has begun already."),
    gettext_noop("The run keeps its %(epochs)s epochs: %(error)s."),
    gettext_noop(
        "The run has %(epochs)s epochs now, not %(then)s: from step %(step)s on the learning rate is that of a run of "
        "%(length)s."
    ),
    gettext_noop("An epoch has %(steps)s steps now, not %(then)s: the step numbers change."),
    gettext_noop("The dataset is not the one that the checkpoint was trained on."),
    gettext_noop("batch_size %(batch_size)s was chosen (%(trials)s)."),
    gettext_noop("Weights of %(file)s: %(message)s"),
    gettext_noop("%(count)s of %(total)s tensors were taken over."),
    gettext_noop("%(count)s %(what)s: %(names)s."),
    gettext_noop("Mixed precision is off: this CPU has no bfloat16 instructions."),
    gettext_noop("The files for TensorBoard could not be written, and are not any more: %(error)s"),
    gettext_noop("There will be no files for TensorBoard: the package tensorboard is not installed (%(error)s)."),
    gettext_noop("There will be no files for TensorBoard: %(error)s"),
    gettext_noop("Unreadable line in events.jsonl: %(quoted)s"),
    # The proof of a resume
    gettext_noop("The step after %(file)s, made again, is the same bit by bit."),
    gettext_noop("The step after %(file)s, made again, differs by %(difference)s, as a share: %(changes)s."),
    gettext_noop("Whether the run goes on exactly cannot be shown: %(changes)s."),
    # Checkpoints
    gettext_noop("Checkpoint %(file)s %(damage)s; it is set aside and the one before it is used."),
    gettext_noop("No sound checkpoint is left: the run starts from its beginning."),
    gettext_noop("%(path)s is damaged (%(error)s); the events of the run name %(count)s checkpoints."),
    gettext_noop(
        "The disk is full: a checkpoint could not be written. No checkpoint was lost. Free some space, then resume "
        "the run."
    ),
    gettext_noop(
        "A checkpoint could not be written (%(error)s). No checkpoint was lost: the run goes on from the newest once "
        "its folder can be written to again."
    ),
    gettext_noop("The checkpoint does not fit the configuration: %(error)s"),
    gettext_noop("The checkpoint to start from, %(file)s, is not there any more."),
    gettext_noop("The checkpoint to start from, %(file)s, cannot be read: %(error)s"),
    gettext_noop("The weights %(path)s are not there any more."),
    gettext_noop("The weights %(path)s cannot be read: %(error)s"),
    gettext_noop("The %(beginning)s, with which the run begins, %(damage)s. Nothing was trained."),
    gettext_noop("None of the weights in %(file)s fit this model: start_from names another network."),
    # What went wrong
    gettext_noop("The disk is full (%(error)s). Free some space, then resume the run."),
    gettext_noop(
        "Nothing can be written to the run's folder (%(error)s). No checkpoint was lost: the run goes on from the "
        "newest once its folder can be written to again."
    ),
    gettext_noop("Memory ran out: %(error)s Halve batch_size, choose a smaller image_size or model, or turn on amp."),
    gettext_noop("The GPU reported an error: %(error)s"),
    gettext_noop("Batch norm cannot train on one image at a time: use batch_size 2 or more."),
    gettext_noop("Not even a batch of two images fits into memory: choose a smaller image_size or model."),
    gettext_noop("%(fact)s: training has diverged. Lower learning_rate, lengthen warmup_epochs, or turn off amp."),
    gettext_noop("device is %(device)s, but this machine has no GPU that torch can use. Use auto or cpu."),
    gettext_noop("device is %(device)s, but there are %(count)s GPUs here, numbered from 0. Use auto."),
    gettext_noop("Attempt %(attempt)s of this run has begun; attempt %(earlier)s ends without saving."),
    gettext_noop("Another trainer still holds %(path)s."),
    # The configuration as a trainer gets it
    gettext_noop("The configuration cannot be used. %(problems)s"),
    gettext_noop("%(path)s: cannot be read (%(reason)s)."),
    gettext_noop("%(path)s: not valid JSON (%(error)s)."),
    gettext_noop("%(path)s: must be a JSON object with a whole number 'attempt'."),
    gettext_noop("%(order_file)s lacks %(names)s."),
    gettext_noop("%(order_file)s lacks start_from, the path of %(file)s."),
    gettext_noop("%(order_file)s: device is %(device)s; it must be cpu or cuda:N."),
    # The dataset as a trainer finds it
    gettext_noop("The dataset is for %(tasks)s, not for %(task)s."),
    gettext_noop("The %(split)s split has %(count)s images; it needs at least %(least)s."),
    gettext_noop("No image of the %(split)s split has a box."),
    gettext_noop("Some images have no label of their own."),
    gettext_noop("Some images have no mask."),
    gettext_noop("%(path)s holds the value %(value)s, but there are %(count)s classes."),
    gettext_noop("%(path)s cannot be read as a mask: %(error)s"),
    gettext_noop("%(path)s is no mask: it must have one 8-bit channel."),
    gettext_noop("%(path)s cannot be read as an image: %(error)s"),
    gettext_noop("%(path)s: format is %(text)s; this version reads formats 1 and %(format)s."),
    gettext_noop("%(path)s: %(key)s must be a text."),
    gettext_noop("%(path)s: %(key)s must be a list of names with at least one entry."),
    gettext_noop("%(where)s: %(key)s must be a whole number of pixels, not %(text)s."),
    gettext_noop("%(where)s: 'split' must be 'train' or 'val', not %(text)s."),
    gettext_noop("%(where)s: 'boxes' must be a list."),
    gettext_noop("%(where)s: %(key)s must be a relative path within the dataset, not %(text)s."),
    gettext_noop("%(where)s: 'label' must be a whole number from 0 to %(most)s, not %(text)s."),
    gettext_noop("%(where)s: a box must be [label, left, top, right, bottom], not %(text)s."),
    gettext_noop("%(where)s: the box %(text)s has no area or leaves the image of %(width)s x %(height)s."),
    gettext_noop("%(where)s: not valid JSON (%(error)s)."),
    gettext_noop("%(where)s: must be a JSON object."),
    gettext_noop("%(path)s: the file is missing."),
    gettext_noop("%(path)s: not UTF-8 text (%(error)s)."),
    # Networks and published weights
    gettext_noop("None of the published weights fit %(network)s."),
    gettext_noop("ssd300_vgg16 needs images of %(least)s to %(most)s pixels: set image_size to 320."),
    gettext_noop("Nobody has published %(network)s as a whole: set pretrained to backbone or none."),
    gettext_noop("segmentation-models-pytorch has no network called %(network)s; it has %(names)s."),
    gettext_noop("pretrained is whole, but nobody publishes weights of the whole %(network)s. Take backbone instead."),
    gettext_noop("pretrained is backbone, but no ImageNet weights of %(network)s are known. Turn pretrained off."),
    gettext_noop("%(network)s cannot be built: %(error)s"),
    gettext_noop("%(network)s cannot be built for images of %(side)s pixels: %(error)s"),
    gettext_noop("timm has no network called %(network)s."),
    gettext_noop("Pretrained weights of %(network)s could not be fetched: %(error)s %(advice)s"),
    gettext_noop("Pretrained weights could not be fetched from %(url)s: %(error)s. %(advice)s"),
    gettext_noop("%(path)s is damaged: %(error)s. Delete it. %(advice)s"),
    gettext_noop("The weights do not fit the network %(network)s: %(error)s"),
    # Files of weights
    gettext_noop("The checkpoint does not hold the whole network: %(names)s are missing."),
    gettext_noop(
        "Nothing in the file fits %(network)s: it has %(names)s, the network has %(others)s. Choose the architecture "
        "that it was made for."
    ),
    gettext_noop("The tensor %(network)s holds numbers that are not finite."),
    gettext_noop("This is no safetensors file: %(error)s"),
    gettext_noop("The file holds more than tensors, which is not loaded for safety."),
    gettext_noop("The file holds more than tensors, which is not loaded for safety: it names %(network)s."),
    gettext_noop("This is no file of PyTorch: %(kind)s: %(error)s"),
    gettext_noop("The file would grow to %(count)s bytes when it is opened; files of PyTorch do not."),
    gettext_noop("The file holds a %(type)s; a state dict (tensors by name) is needed."),
    gettext_noop("The file holds no tensors by name; it has %(names)s."),
    gettext_noop("The tensor %(network)s is sparse or quantized; plain ones are needed."),
    gettext_noop("The tensor %(network)s claims more numbers than the file holds."),
    gettext_noop("The file does not hold the weights of the network."),
    gettext_noop("%(format)s cannot be made of this network: %(kind)s: %(error)s"),
    gettext_noop(
        "%(format)s does not give what PyTorch gives: scores differ by up to %(difference)s (allowed: %(most)s)."
    ),
    gettext_noop(
        "%(format)s does not give what PyTorch gives: scores differ by up to %(difference)s (allowed: %(most)s), "
        "boxes by up to %(pixels)s pixels."
    ),
    # Jobs
    gettext_noop("Building the network"),
    gettext_noop("Making %(file)s"),
    gettext_noop("Packing"),
    gettext_noop("Reading the file and trying it on the network"),
    gettext_noop("Loading the network"),
    gettext_noop("Writing the weights"),
    gettext_noop("Finding the batch size …"),
    gettext_noop("Building the model …"),
    gettext_noop("Loading images …"),
    gettext_noop("Training a few steps …"),
    gettext_noop("Validating a few images …"),
    gettext_noop("This cannot be read as an image: %(error)s"),
    gettext_noop("There is no image."),
    gettext_noop("No labels are known for these images."),
    gettext_noop("Some images cannot be read, so nothing is measured."),
    gettext_noop("The folder has more than %(count)s images."),
    gettext_noop("The dataset has no annotations for %(task)s."),
    gettext_noop("The weights do not know these classes of the dataset: %(names)s."),
    gettext_noop("The classes of the masks are not those of the weights, in their order."),
    gettext_noop("This worker knows no job of the kind %(kind)s."),
    gettext_noop(
        "A batch of %(given)s does not fit into memory. This does: batch_size %(batch_size)s with accumulation_steps "
        "%(steps)s; the optimizer sees as many images a step."
    ),
    gettext_noop("The run takes more memory than is free now: other work has to end first."),
    gettext_noop(
        "The loss, the gradients or the weights are no finite numbers after a few steps: lower learning_rate, "
        "lengthen warmup_epochs, or turn off amp."
    ),
    gettext_noop("The device waits for images: give the run more num_workers."),
    gettext_noop(
        "The disk has %(free)s free and the run may need %(size)s for %(count)s checkpoints: %(short)s too little. "
        "Free some, or keep fewer."
    ),
]

#: What else stands in a line in the place of a value.
PARTS = [
    gettext_noop("%(batch_size)s: %(rate)s img/s"),
    gettext_noop("%(first)s and %(count)s more"),
    gettext_noop("%(thing)s was %(then)s, now %(now)s"),
    gettext_noop("the device"),
    gettext_noop("the number of CPU threads"),
    gettext_noop("the run may use algorithms that do not repeat bit by bit (deterministic is off)"),
    gettext_noop("nothing that is known to matter has changed"),
    gettext_noop("no step after this checkpoint was made before"),
    gettext_noop("%(path)s line %(line)s"),
    gettext_noop("checkpoint %(file)s of run %(number)s"),
    gettext_noop("file of the weights “%(weights)s” (number %(number)s)"),
    gettext_noop("is missing"),
    gettext_noop("is damaged (its hash does not hold)"),
    gettext_noop("is damaged (it cannot be read)"),
    gettext_noop("is damaged (a hash in %(pack)s does not hold)"),
    gettext_noop("is of a format that is not known here (%(format)s)"),
    gettext_noop("holds numbers of a type that is not known here (%(type)s)"),
    gettext_noop("lacks a tensor"),
    gettext_noop("lacks its pack %(pack)s"),
    gettext_noop("lacks the end of its pack %(pack)s"),
    gettext_noop("is cut short"),
    gettext_noop("cannot be decompressed"),
    gettext_noop("cannot be read (%(error)s)"),
    gettext_noop("it holds %(module)s.%(name)s"),
    gettext_noop("no message."),
    gettext_noop("no message"),
    gettext_noop("Connect this machine to huggingface.co, or turn pretrained off."),
    gettext_noop("Connect this machine to %(host)s, or put the file into %(path)s by hand, or turn pretrained off."),
]

#: Why a training has diverged.
FACTS = [
    gettext_noop("The weights %(weight)s are not finite any more"),
    gettext_noop("The loss became %(value)s at or shortly before step %(step)s"),
    gettext_noop("The validation %(metric)s of epoch %(epoch)s is %(value)s"),
]

#: What became of tensors that could not be taken over.
TRANSFERS = [
    gettext_noop("have another shape and start anew"),
    gettext_noop("are not in the source and start anew"),
    gettext_noop("of the source have no place here"),
]

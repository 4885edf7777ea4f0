"""What imports say of a dataset: the messages of `trainingapp.datasets`."""

from django.utils.translation import gettext_noop

#: Whole messages.
SENTENCES = [
    # Any line of a report
    gettext_noop("Left out: %(message)s"),
    gettext_noop("… and %(count)s more of the same kind."),
    gettext_noop("The import failed: %(error)s"),
    # Archives and folders
    gettext_noop(
        "The disk is too full: the images take %(size)s, %(free)s are free and %(reserve)s stay in reserve. "
        "%(short)s more are needed."
    ),
    gettext_noop("%(path)s is longer than announced."),
    gettext_noop("%(path)s is damaged in the zip: %(reason)s"),
    gettext_noop("%(source)s is not there (any more)."),
    gettext_noop("The file is no zip, or a damaged one: %(reason)s."),
    gettext_noop("The zip's table of contents is larger than %(size)s."),
    gettext_noop("The zip has %(count)s entries; at most %(most)s are taken. Import a folder instead."),
    gettext_noop("The zip unpacks to %(size)s; at most %(limit)s are taken."),
    gettext_noop("%(source)s unpacks from %(packed)s to %(size)s: a zip bomb. Nothing of it was read."),
    gettext_noop("%(path)s leads out of the dataset."),
    gettext_noop("%(path)s is a link or a device; only plain files are taken."),
    gettext_noop("%(path)s is encrypted; make the zip without a password."),
    gettext_noop("%(path)s is compressed in a way that is not read; use Deflate."),
    gettext_noop("%(path)s is a device or a pipe; only plain files are taken."),
    gettext_noop("%(path)s is a link that leads out of the folder, to a folder or to nothing."),
    gettext_noop("There is no file in it."),
    gettext_noop("%(path)s is a name that cannot be used."),
    gettext_noop("The name %(path)s… is too long."),
    gettext_noop("%(path)s is there twice."),
    gettext_noop("%(path)s is both a file and a folder."),
    gettext_noop("This is a folder, not a zip."),
    gettext_noop("There is no image in it."),
    gettext_noop("The disk of the studio filled up during the import. Nothing was kept."),
    gettext_noop("The studio may not read or write %(source)s."),
    gettext_noop("A file could not be read or written: %(reason)s."),
    # Classes and splits
    gettext_noop("There are %(count)s classes; masks can tell %(most)s apart: no masks are made."),
    gettext_noop("There are %(count)s classes; masks can tell %(most)s apart."),
    gettext_noop("The class %(class)s holds no image."),
    gettext_noop("There is no image that can be imported."),
    gettext_noop("There is only one class, %(class)s; a classifier needs at least two."),
    gettext_noop("No image shows an annotated object of any class."),
    gettext_noop("Nothing is annotated as %(class)s."),
    gettext_noop("The class %(class)s has no image to train on."),
    gettext_noop("The class %(class)s has no image for validation."),
    gettext_noop("There are images for validation but none for training."),
    gettext_noop("There is no image for validation; %(share)s of each class are set aside for it."),
    gettext_noop("There is no class %(class)s to import as %(new_name)s."),
    gettext_noop("The class %(class)s is chosen twice."),
    gettext_noop("%(count)s images of the test split left out."),
    gettext_noop("There are no validation images; the test split is used for validation."),
    gettext_noop("No image is left to train on."),
    gettext_noop("No image is left for validation: at least one class needs two different images."),
    gettext_noop("“%(dataset)s” has the same content; the files are stored once."),
    gettext_noop("Beside %(folders)s there are other folders: %(others)s."),
    gettext_noop("%(pair)s are both the %(kind)s split."),
    gettext_noop("There is a folder for validation but none for training."),
    gettext_noop("There is no val folder; %(path)s is used for validation."),
    gettext_noop("There is no class folder: put the images of each class into a folder named for it."),
    gettext_noop("%(files)s %(ending)s passed over, not being images."),
    gettext_noop("%(images)s outside of any class folder passed over."),
    gettext_noop("%(images)s in %(path)s left out."),
    # Images
    gettext_noop("%(path)s equals %(other)s, which has another class."),
    gettext_noop("%(path)s equals %(other)s: training sees an image of the validation."),
    gettext_noop("%(path)s equals %(other)s."),
    gettext_noop("%(path)s looks nearly like %(other)s, which is trained on."),
    gettext_noop("1 image is %(note)s."),
    gettext_noop("%(count)s images are %(note)s."),
    gettext_noop("%(count)s boxes that leave their image by up to %(pixels)s pixels are clipped."),
    gettext_noop(
        "%(path)s is too large to decode (%(pixel_size)s of a %(format)s take %(count)s MB); at most %(most)s MB are "
        "taken."
    ),
    gettext_noop("%(path)s is too large to decode (%(pixel_size)s); at most %(most)s pixels are taken."),
    gettext_noop("%(path)s is not an image in any format that is read (%(formats)s)."),
    gettext_noop("%(path)s is in colours; class_dict.csv or labelmap.txt must say which class each colour is."),
    gettext_noop("%(path)s is empty (0 bytes)."),
    gettext_noop("%(path)s is a text file, not an image."),
    gettext_noop("%(path)s is cut short: its end is missing."),
    gettext_noop("%(path)s is damaged and cannot be read: %(reason)s."),
    # Annotation files
    gettext_noop("%(path)s is no UTF-8 text (%(reason)s)."),
    gettext_noop("%(path)s is larger than %(most)s MB, the most that such a file may be."),
    gettext_noop("%(path)s is larger than %(most)s MB, the most that an XML file may be."),
    gettext_noop("%(path)s unpacks to %(count)s MB from next to nothing: a zip bomb."),
    gettext_noop("%(where)s is not valid JSON: %(reason)s."),
    gettext_noop("%(where)s is not valid CSV: %(reason)s."),
    gettext_noop("%(where)s is not valid XML: %(reason)s."),
    gettext_noop("%(where)s is not valid YAML: %(reason)s."),
    gettext_noop("%(path)s defines entities or refers to other files; only plain XML is read."),
    gettext_noop("%(where)s: in %(key)s: %(fault)s."),
    gettext_noop("%(where)s: %(fault)s."),
    gettext_noop("%(where)s: there is no image with the id %(id)s."),
    gettext_noop("%(where)s: there is no image %(path)s."),
    gettext_noop("%(where)s: there is no category %(id)s."),
    gettext_noop("%(where)s: the image %(path)s is there already (%(elsewhere)s)."),
    gettext_noop("%(count)s images that no annotation names are left out."),
    gettext_noop("Only %(count)s of %(total)s objects have an outline: the set is for detection alone."),
    gettext_noop("%(where)s: only %(count)s columns."),
    gettext_noop("%(where)s: the class is missing."),
    gettext_noop("%(where)s: %(text)s is no split; train, val or test is one."),
    gettext_noop("%(path)s: the classes need names, each another one."),
    gettext_noop("%(path)s has pixels of no known class: %(pixel_values)s."),
    gettext_noop("%(path)s has pixels of no known class."),
    gettext_noop("There is no image for the mask %(path)s."),
    gettext_noop("There is no mask for the image %(path)s."),
    gettext_noop("There is no image for %(path)s."),
    gettext_noop("%(path)s names no class with its colour."),
    gettext_noop("%(where)s: the object has no name."),
    gettext_noop("%(where)s: bndbox needs the numbers %(keys)s."),
    gettext_noop("%(count)s images have no text file: they are taken as showing no object."),
    gettext_noop("%(path)s and %(other)s are both for %(image)s."),
    gettext_noop("%(path)s: %(text)s is no class name."),
    gettext_noop("%(where)s: a class and four numbers (or the points of a polygon) are needed, not %(count)s parts."),
    gettext_noop("%(where)s: there is no class %(text)s."),
    gettext_noop(
        "%(where)s: the annotations are of an image of %(width)s x %(height)s pixels, but %(path)s has "
        "%(real_width)s x %(real_height)s."
    ),
    gettext_noop("%(where)s: the box %(box)s leaves the image of %(width)s x %(height)s."),
    gettext_noop("%(where)s: the box %(box)s has no area."),
    gettext_noop("%(where)s: the mask is empty."),
    gettext_noop("%(where)s: the mask has %(width)s x %(height)s pixels, the image %(real_width)s x %(real_height)s."),
    gettext_noop("%(where)s: the run lengths of the mask do not fill %(width)s x %(height)s pixels."),
    gettext_noop("%(path)s has %(width)s x %(height)s pixels, its image %(real_width)s x %(real_height)s."),
]

#: What else stands in a message in the place of a value.
PARTS = [
    # Places and things
    gettext_noop("%(path)s line %(line)s"),
    gettext_noop("The zip"),
    gettext_noop("The source"),
    gettext_noop("a file"),
    gettext_noop("1 file"),
    gettext_noop("%(count)s files"),
    gettext_noop("1 image"),
    gettext_noop("%(count)s images"),
    gettext_noop("ending in %(suffix)s"),
    gettext_noop("without an ending"),
    gettext_noop("a %(type)s"),
    gettext_noop("colour %(red)s,%(green)s,%(blue)s"),
    gettext_noop("value %(value)s"),
    gettext_noop("%(width)s x %(height)s pixels"),
    gettext_noop("too many pixels"),
    # Why a file of annotations cannot be read
    gettext_noop("it is nested too deeply"),
    gettext_noop("a name in quotes is missing"),
    gettext_noop("%(character)s is missing"),
    gettext_noop("something follows its end"),
    gettext_noop("one value of a list has more than %(count)s MB"),
]

#: What an image is, as in "1 image is ...".
NOTES = [
    gettext_noop("smaller than %(count)s pixels on a side; a network will hardly see anything"),
    gettext_noop("stored turned; training turns them upright as their EXIF data says"),
    gettext_noop("with several frames, of which the first is used"),
    gettext_noop("with more than 8 bits a channel, which are reduced to 8"),
    gettext_noop("annotated as stored, before EXIF turns them; their annotations are turned along"),
]

#: What is wrong with one entry of an annotation file.
FAULTS = [
    gettext_noop("no JSON object"),
    gettext_noop("an image needs an id and a file_name"),
    gettext_noop("the image id %(id)s is there twice"),
    gettext_noop("a category needs an id and a name"),
    gettext_noop("the category id %(id)s is there twice"),
    gettext_noop("an annotation needs an image_id and a category_id"),
    gettext_noop("bbox must be four numbers: left, top, width, height; not %(text)s"),
    gettext_noop("segmentation must be lists of x, y, x, y, ... or run lengths with their size"),
    gettext_noop("an annotation needs a bbox or a segmentation"),
    gettext_noop("bbox is too large"),
    gettext_noop("an image needs a path and a mask"),
    gettext_noop("an image needs as many labels as boxes, and at least one"),
    gettext_noop("a label is no number of a class"),
    gettext_noop("a box must be four numbers"),
    gettext_noop("there is no image %(path)s"),
]

#: Two folders.
PAIRS = [
    gettext_noop("%(path)s and %(other)s"),
]

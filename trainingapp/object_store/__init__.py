"""Datasets in an object store, for hosts without a common DATA_DIR: packing, uploading, downloading (no Django).

    datasets/<key>/dataset.json, samples.jsonl      the index, without the name of the dataset
    datasets/<key>/part-00001-<digits>.tar ...      its files in the order of samples.jsonl, about 256 MB each
    datasets/<key>/manifest.json                    names, sizes and SHA-256 of all of these; written last

A dataset without a manifest does not exist. `key.py` names a dataset by its content, so equal datasets share a key. The
database has the SHA-256 of the manifest: whoever can write into the store can make a dataset unavailable, but cannot
change it.
"""

"""Why a file cannot be read: texts of Python, its libraries and the operating system that come often.

They are recognised where the error is caught, so that what is stored and shown is a code like any other. A text that
is not listed here is shown as the library wrote it.
"""

from trainingapp.contract.messages import Param, Template, define, gettext_noop

#: The text of the library -> the message.
KNOWN: dict[str, Template] = {
    # json
    "Expecting value": define("reason_json_value_expected", gettext_noop("Expecting value")),
    "Expecting property name enclosed in double quotes": define(
        "reason_json_name_expected", gettext_noop("Expecting property name enclosed in double quotes")
    ),
    "Expecting ',' delimiter": define("reason_json_comma_expected", gettext_noop("Expecting ',' delimiter")),
    "Expecting ':' delimiter": define("reason_json_colon_expected", gettext_noop("Expecting ':' delimiter")),
    "Illegal trailing comma before end of object": define(
        "reason_json_comma_ends_object", gettext_noop("Illegal trailing comma before end of object")
    ),
    "Illegal trailing comma before end of array": define(
        "reason_json_comma_ends_array", gettext_noop("Illegal trailing comma before end of array")
    ),
    "Invalid control character at": define("reason_json_control_character", gettext_noop("Invalid control character")),
    "Unterminated string starting at": define("reason_json_string_open", gettext_noop("Unterminated string")),
    "Extra data": define("reason_json_extra_data", gettext_noop("Extra data")),
    # UTF-8
    "invalid start byte": define("reason_utf8_start", gettext_noop("invalid start byte")),
    "invalid continuation byte": define("reason_utf8_continuation", gettext_noop("invalid continuation byte")),
    "unexpected end of data": define("reason_utf8_end", gettext_noop("unexpected end of data")),
    # expat
    "not well-formed (invalid token)": define(
        "reason_xml_not_well_formed", gettext_noop("not well-formed (invalid token)")
    ),
    "mismatched tag": define("reason_xml_tag_mismatch", gettext_noop("mismatched tag")),
    "no element found": define("reason_xml_no_element", gettext_noop("no element found")),
    "unclosed token": define("reason_xml_token_open", gettext_noop("unclosed token")),
    "duplicate attribute": define("reason_xml_attribute_twice", gettext_noop("duplicate attribute")),
    "junk after document element": define("reason_xml_after_end", gettext_noop("junk after document element")),
    "undefined entity": define("reason_xml_entity", gettext_noop("undefined entity")),
    "unbound prefix": define("reason_xml_prefix", gettext_noop("unbound prefix")),
    "unknown encoding": define("reason_xml_encoding", gettext_noop("unknown encoding")),
    "multi-byte encodings are not supported": define(
        "reason_xml_multi_byte", gettext_noop("multi-byte encodings are not supported")
    ),
    "syntax error": define("reason_xml_syntax", gettext_noop("syntax error")),
    # zipfile and zlib
    "File is not a zip file": define("reason_zip_no_zip", gettext_noop("File is not a zip file")),
    "Truncated file header": define("reason_zip_header_short", gettext_noop("Truncated file header")),
    "Bad magic number for central directory": define(
        "reason_zip_directory_number", gettext_noop("Bad magic number for central directory")
    ),
    "Bad magic number for file header": define(
        "reason_zip_header_number", gettext_noop("Bad magic number for file header")
    ),
    "Bad offset for central directory": define(
        "reason_zip_directory_offset", gettext_noop("Bad offset for central directory")
    ),
    "Truncated central directory": define("reason_zip_directory_short", gettext_noop("Truncated central directory")),
    "Compressed file ended before the end-of-stream marker was reached": define(
        "reason_zip_end_missing", gettext_noop("Compressed file ended before the end-of-stream marker was reached")
    ),
    # tarfile, lzma and bz2
    "truncated header": define("reason_tar_header_short", gettext_noop("Truncated header")),
    "invalid header": define("reason_tar_header_invalid", gettext_noop("invalid header")),
    "bad checksum": define("reason_tar_checksum", gettext_noop("wrong checksum")),
    "missing or bad subsequent header": define(
        "reason_tar_next_header", gettext_noop("a following header is missing or invalid")
    ),
    "the archive ends within this file": define(
        "reason_tar_file_short", gettext_noop("the archive ends within this file")
    ),
    "Corrupt input data": define("reason_xz_data", gettext_noop("invalid compressed data")),
    "Invalid data stream": define("reason_bzip2_data", gettext_noop("invalid data stream")),
    "Memory usage limit exceeded": define("reason_xz_memory", gettext_noop("unpacking it takes too much memory")),
    "Input format not supported by decoder": define("reason_xz_format", gettext_noop("it is not in the xz format")),
    # csv
    "line contains NUL": define("reason_csv_nul", gettext_noop("line contains NUL")),
    # PyYAML
    "mapping values are not allowed here": define(
        "reason_yaml_mapping", gettext_noop("mapping values are not allowed here")
    ),
    "could not find expected ':'": define("reason_yaml_colon", gettext_noop("could not find expected ':'")),
    "found unexpected end of stream": define("reason_yaml_end", gettext_noop("found unexpected end of stream")),
    # Pillow
    "broken data stream when reading image file": define(
        "reason_image_data", gettext_noop("broken data stream when reading image file")
    ),
    "unrecognized data stream contents when reading image file": define(
        "reason_image_content", gettext_noop("unrecognized data stream contents when reading image file")
    ),
    "decoding error when reading image file": define(
        "reason_image_decoding", gettext_noop("decoding error when reading image file")
    ),
    "could not create decoder object": define("reason_image_decoder", gettext_noop("could not create decoder object")),
    # The operating system
    "Input/output error": define("reason_os_io", gettext_noop("Input/output error")),
    "Permission denied": define("reason_os_permission", gettext_noop("Permission denied")),
    "Read-only file system": define("reason_os_read_only", gettext_noop("Read-only file system")),
    "No space left on device": define("reason_os_disk_full", gettext_noop("No space left on device")),
    "Too many open files": define("reason_os_open_files", gettext_noop("Too many open files")),
    "Is a directory": define("reason_os_folder", gettext_noop("Is a directory")),
    "Not a directory": define("reason_os_no_folder", gettext_noop("Not a directory")),
    "File name too long": define("reason_os_name", gettext_noop("File name too long")),
    "Stale file handle": define("reason_os_stale", gettext_noop("Stale file handle")),
}

#: The beginning of a text that goes on with values -> the message.
BEGINNINGS: dict[str, Template] = {
    "Exceeds the limit (": define("reason_json_too_many_digits", gettext_noop("a number has too many digits")),
    "zip file version ": define("reason_zip_version", gettext_noop("its zip version is not supported")),
    "Corrupt extra field ": define("reason_zip_extra_field", gettext_noop("an extra field is corrupted")),
    "Bad CRC-32 for file ": define("reason_zip_checksum", gettext_noop("its checksum is wrong")),
    "Error -": define("reason_zlib_data", gettext_noop("its compressed data is corrupted")),
    "field larger than field limit (": define("reason_csv_field_too_long", gettext_noop("a field is too long")),
    "expected <block end>, but found ": define("reason_yaml_block_end", gettext_noop("the end of a block is expected")),
    "expected ',' or ']', but got ": define("reason_yaml_list", gettext_noop("',' or ']' is expected")),
    "expected ',' or '}', but got ": define("reason_yaml_table", gettext_noop("',' or '}' is expected")),
    "could not determine a constructor for the tag ": define("reason_yaml_tag", gettext_noop("a tag is unknown")),
    "unacceptable character ": define(
        "reason_yaml_character", gettext_noop("it contains special characters that are not allowed")
    ),
    "found unconstructable recursive node": define("reason_yaml_loop", gettext_noop("an alias refers to itself")),
    "found undefined alias": define("reason_yaml_alias", gettext_noop("an alias is not defined")),
    "found character ": define("reason_yaml_token", gettext_noop("a character cannot start a value here")),
    "broken PNG file ": define("reason_png_chunk", gettext_noop("a chunk of the PNG file is corrupted")),
    "cannot identify image file": define("reason_image_unknown", gettext_noop("it is not a known kind of image")),
}


def library_reason(text: str) -> Param:
    """The message for what a library wrote of a file, or its text where it is not known."""
    if template := KNOWN.get(text):
        return template()
    return next((template() for beginning, template in BEGINNINGS.items() if text.startswith(beginning)), text)

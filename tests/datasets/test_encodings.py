"""Names and texts in an undeclared encoding are decoded correctly."""

import pytest

from trainingapp.datasets.report import DatasetError
from trainingapp.datasets.sources.encodings import LEGACY, TEXT_LEGACY, best_encoding
from trainingapp.datasets.sources.texts import decode, decode_file

#: Typical names of classes and folders, by the encoding of their system's zip program.
NAMES = [
    ("cp850", ["Bären/Bä0.png", "Kühe/Kü1.png"]),
    ("cp437", ["Café/1.png", "Menü/2.png"]),
    ("cp850", ["São Paulo/1.jpg", "maçã/2.jpg"]),
    ("cp850", ["été/1.png"]),
    ("cp850", ["garçon/1.jpg", "naïve/2.jpg"]),
    ("cp850", ["Øst/1.png", "Ærø/2.png", "blåbær/3.png"]),
    ("cp437", ["ñandú/1.png"]),
    ("gb18030", ["猫/1.png", "狗/2.png"]),
    ("gb18030", ["狗/1.jpg"]),
    ("gb18030", ["划痕/1.jpg", "凹坑/2.jpg", "正常/3.jpg"]),
    ("gb18030", ["新建文件夹/1.jpg"]),
    ("gb18030", ["麻雀/1", "喜鹊/2", "乌鸦/3"]),
    ("gb18030", ["蒲公英/1", "郁金香/2", "玫瑰/3"]),
    ("gb18030", ["數據/1", "訓練/2"]),
    ("cp932", ["新しい/p0.png", "古い/p1.png"]),
    ("cp932", ["猫/1.png", "犬/2.png"]),
    ("cp932", ["ネコ/1", "イヌ/2"]),
    ("cp932", ["正常/1", "異常/2"]),
    ("cp932", ["ひび割れ/1", "欠け/2"]),
    ("cp932", ["表/1", "裏/2"]),
    ("cp866", ["кошка/1.png", "собака/2.png"]),
    ("cp866", ["Новая папка/фото 1.jpg"]),
    ("cp866", ["ёж/1.png"]),
    ("cp949", ["고양이/1.png", "강아지/2.png"]),
    ("cp949", ["새 폴더/1.jpg"]),
    ("cp949", ["정상/1", "불량/2"]),
    ("cp949", ["딸기/1", "포도/1", "수박/1"]),
]


@pytest.mark.parametrize(("encoding", "names"), NAMES)
def test_names_are_decoded_together(encoding: str, names: list[str]) -> None:
    raw = [name.encode(encoding) for name in names]
    found = best_encoding(raw)
    assert [name.decode(found) for name in raw] == names


def test_utf_8_is_preferred_where_all_names_are() -> None:
    assert best_encoding([name.encode() for _encoding, names in NAMES for name in names]) == "utf-8"
    assert best_encoding([b"cat/1.png"]) == "utf-8"


def test_one_name_determines_the_encoding_of_all() -> None:
    """The bytes of 猫 in GBK are also è in UTF-8; those of 狗 are not valid UTF-8."""
    assert best_encoding(["猫".encode("gbk")]) == "utf-8"
    assert best_encoding(["猫".encode("gbk"), "狗".encode("gbk")]) == "gb18030"


def test_undecodable_bytes_use_the_first_candidate() -> None:
    assert best_encoding([b"\xff"], ("cp932", "cp949")) == "cp932"
    assert best_encoding([b"\xff\xfe/\x80"]) in LEGACY


TEXTS = [
    ("cp1252", "file,label\na.jpg,Bären\nb.jpg,Kühe\n"),
    ("gb18030", "file,label\na.jpg,猫\nb.jpg,狗\n"),
    ("cp932", "file,label\na,ねこ\nb,犬\n"),
    ("cp1251", "file,label\na,кошка\nb,собака\n"),
    ("cp949", "file,label\na,고양이\nb,강아지\n"),
    ("utf-8", "file,label\na,Ünï\n"),
]


@pytest.mark.parametrize(("encoding", "text"), TEXTS)
def test_encodings_of_texts_are_detected(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding)) == (text, encoding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_has_precedence(encoding: str) -> None:
    text = "names: [猫, Bär]\n"
    assert decode(text.encode(encoding), "cp932")[0] == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_detected(encoding: str) -> None:
    text = "0 0.5 0.5 0.4 0.4\n" * 3
    assert decode(text.encode(encoding)) == (text, encoding)


def test_the_chosen_encoding_is_used() -> None:
    assert decode("猫".encode("gbk"))[0] == "è"
    assert decode("猫".encode("gbk"), "gb18030")[0] == "猫"


def test_likely_encodings_come_first() -> None:
    assert decode("è猫".encode("gb18030"), likely=["cp1252"])[1] == "cp1252"
    assert decode("猫狗".encode("gb18030"), likely=[])[1] == "gb18030"


@pytest.mark.parametrize("name", ["zlib", "idna", "punycode", "utf-7", "no-such", "undefined"])
def test_codecs_that_are_not_file_encodings_are_refused(name: str) -> None:
    with pytest.raises(DatasetError, match="no encoding"):
        decode_file(b"a\xff", "labels.csv", name)


def test_binary_content_is_not_text() -> None:
    with pytest.raises(DatasetError, match=r"labels\.txt is not a text file"):
        decode_file(bytes(range(256)) * 4, "labels.txt")


@pytest.mark.parametrize("declared", ["gb2312", "GBK", "gb18030"])
def test_xml_is_decoded_as_declared(declared: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>\n<annotation>汽车</annotation>'
    assert decode_file(text.encode("gb18030"), "a.xml") == (text, "gb18030")


def test_xml_with_a_false_utf_8_declaration_is_refused() -> None:
    content = '<?xml version="1.0" encoding="utf-8"?>\n<annotation>\n<name>汽车</name></annotation>'.encode("gbk")
    with pytest.raises(DatasetError, match=r"a\.xml line 3: .* utf-8, but is probably gb18030"):
        decode_file(content, "a.xml")
    assert "汽车" in decode_file(content, "a.xml", "gb18030")[0]


def test_every_candidate_is_a_codec() -> None:
    for encoding in (*LEGACY, *TEXT_LEGACY):
        assert b"a".decode(encoding) == "a"

"""Conditions on runs, as people type them: lr<0.01 and (mAP50>60% or status=failed) not tag:old birds.

    conditions = all { "or" all }
    all        = one { [ "and" ] one }
    one        = "not" one | "(" conditions ")" | column operator value | word

Operators are < <= > >= = != and : (contains). A word alone, or a text in quotation marks, is looked for in the names of
runs and datasets. Columns are those of columns.py.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import NoReturn

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from trainingapp.models import Dataset, TrainingRun
from trainingapp.models.run import Status
from trainingapp.runs.columns import Column, column_named, condition_names

#: Conditions within conditions.
MOST_DEPTH = 20
_QUOTED = r'"(?P<quoted>[^"]*)"|“(?P<curly>[^”]*)”'
_TOKEN = re.compile(rf"\s*(?:(?P<operator><=|>=|!=|==|[<>=:])|(?P<bracket>[()])|{_QUOTED}|(?P<word>[^\s()<>=:!\"“]+))")
_VALUE = re.compile(rf"\s*(?:{_QUOTED}|(?P<word>[^\s()\"“]+))")
_LOOKUPS = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_SECONDS = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class ConditionError(ValueError):
    """The text is no condition; `start` and `end` are the place of what is wrong, as indexes of the text."""

    def __init__(self, message: str, start: int, end: int) -> None:
        super().__init__(message)
        self.start, self.end = start, end


@dataclass(frozen=True)
class Token:
    """A part of the text: operator, bracket, word or text (in quotation marks); `end` for the end of all."""

    kind: str
    text: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text.casefold() in words


def conditions(text: str) -> Q:
    """What the text says as a filter of runs; empty text lets all through. Raises ConditionError."""
    return _Parser(text).parsed() if text.strip() else Q()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.depth = 0

    def parsed(self) -> Q:
        found = self._any()
        rest = self._peek()
        if rest.kind != "end":
            _fail(_("“%(text)s” is not expected here.") % {"text": rest.text}, rest)
        return found

    def _peek(self) -> Token:
        """The next token, which stays the next."""
        match = _TOKEN.match(self.text, self.place)
        if match is None:
            rest = len(self.text) - len(self.text[self.place :].lstrip())
            if rest < len(self.text):
                sign = Token("sign", self.text[rest], rest, rest + 1)
                _fail(_("“%(text)s” is not expected here.") % {"text": sign.text}, sign)
            return Token("end", "", len(self.text), len(self.text))
        return _token(match)

    def _next(self) -> Token:
        token = self._peek()
        self.place = token.end
        return token

    def _any(self) -> Q:
        found = self._all()
        while self._peek().is_word("or"):
            self._next()
            found |= self._all()
        return found

    def _all(self) -> Q:
        found = self._one()
        while True:
            token = self._peek()
            if token.is_word("and"):
                self._next()
            elif token.kind in ("end", "operator") or token.text == ")" or token.is_word("or"):
                return found
            found &= self._one()

    def _one(self) -> Q:
        token = self._next()
        if token.kind == "end" or token.is_word("and", "or"):
            _fail(_("A condition is missing here."), token)
        if token.text == "(" and token.kind == "bracket":
            found = self._nested(self._any, token)
            if self._next().text != ")":
                _fail(_("This bracket is not closed."), token)
            return found
        if token.is_word("not"):
            return ~self._nested(self._one, token)
        if token.kind not in ("word", "text"):
            _fail(_("“%(text)s” is not expected here.") % {"text": token.text}, token)
        if self._peek().kind == "operator":
            return self._comparison(token)
        # Ids of the datasets, which are few: a join would compare the name of the dataset for each run.
        datasets = Dataset.objects.filter(name__icontains=token.text)
        return Q(name__icontains=token.text) | Q(dataset__in=datasets.values("pk"))

    def _nested(self, part: Callable[[], Q], token: Token) -> Q:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            _fail(_("The conditions are nested too deeply."), token)
        found = part()
        self.depth -= 1
        return found

    def _comparison(self, word: Token) -> Q:
        operator = self._next()
        match = _VALUE.match(self.text, operator.end)
        if match is None:
            _fail(_("A value is missing after “%(text)s”.") % {"text": operator.text}, operator)
        value = _token(match)
        self.place = value.end
        column = column_named(word.text)
        if column is None:
            close = difflib.get_close_matches(word.text.casefold(), condition_names(), n=1)
            text = _("There is no column “%(name)s”.") % {"name": word.text}
            hint = _("Did you mean “%(name)s”?") % {"name": close[0]} if close else ""
            _fail(f"{text} {hint}".strip(), word)
        sign = "=" if operator.text == "==" else operator.text
        if column.kind in ("text", "status", "tag", "flag") and sign in _LOOKUPS:
            _fail(_("“%(name)s” is not a number: use =, != or :.") % {"name": column.name}, operator)
        found = _COMPARISONS[column.kind](column, "=" if sign == "!=" else sign, value)
        return ~found if sign == "!=" else found


def _token(match: re.Match[str]) -> Token:
    groups = match.groupdict()
    for kind in ("quoted", "curly"):
        if groups[kind] is not None:
            return Token("text", groups[kind], match.start(kind) - 1, match.end())
    kind = next(kind for kind in ("operator", "bracket", "word") if groups.get(kind) is not None)
    return Token(kind, groups[kind], match.start(kind), match.end())


def _fail(message: str, token: Token) -> NoReturn:
    raise ConditionError(message, token.start, token.end)


def _text(column: Column, sign: str, value: Token) -> Q:
    text = column.old_switch.choice(value.text) if column.old_switch else value.text
    return column.matches("icontains" if sign == ":" else "iexact", text)


def _tag(column: Column, sign: str, value: Token) -> Q:
    """By number of the run: a join would repeat runs with several tags."""
    lookup = {f"tag__name__{'icontains' if sign == ':' else 'iexact'}": value.text}
    return Q(pk__in=TrainingRun.tags.through.objects.filter(**lookup).values("trainingrun"))


def _status(column: Column, sign: str, value: Token) -> Q:
    if value.text.casefold() not in Status.values:
        _fail(_("Unknown status. There are: %(names)s.") % {"names": ", ".join(Status.values)}, value)
    return Q(status=value.text.casefold())


def _flag(column: Column, sign: str, value: Token) -> Q:
    if value.text.casefold() not in _FLAGS:
        _fail(_("“%(name)s” is yes or no.") % {"name": column.name}, value)
    return column.matches("exact", _FLAGS[value.text.casefold()])


def _number(column: Column, sign: str, value: Token) -> Q:
    if value.text.casefold() in column.words and sign in ("=", ":"):
        return column.matches("exact", value.text.casefold())
    share = value.text.endswith("%")
    try:
        number = float(value.text.removesuffix("%"))
    except ValueError:
        _fail(_("“%(text)s” is not a number.") % {"text": value.text}, value)
    if abs(number) > 1e300 or number != number:
        _fail(_("“%(text)s” is not a number.") % {"text": value.text}, value)
    return _by_size(column, sign, number / 100 if share else number)


def _seconds(column: Column, sign: str, value: Token) -> Q:
    match = re.fullmatch(r"(\d+(?:\.\d*)?)(\D*)", value.text)
    if match is None or match[2].casefold() not in _SECONDS or len(match[1]) > 15:
        _fail(_("“%(text)s” is not a time: use 90s, 10min, 2h or 1d.") % {"text": value.text}, value)
    return _by_size(column, sign, float(match[1]) * _SECONDS[match[2].casefold()])


def _moment(column: Column, sign: str, value: Token) -> Q:
    """A day or a moment. A day counts as a whole: after it means from the next day on."""
    try:
        day, moment = parse_date(value.text), parse_datetime(value.text)
        if day is not None:
            first = timezone.make_aware(datetime.combine(day, time.min))
            last = timezone.make_aware(datetime.combine(day + timedelta(days=1), time.min))
        elif moment is not None:
            first = moment if timezone.is_aware(moment) else timezone.make_aware(moment)
            last = first + timedelta(microseconds=1)
        else:
            raise ValueError
    except (ValueError, OverflowError):
        _fail(_("“%(text)s” is not a date: use 2026-01-31.") % {"text": value.text}, value)
    path = column.path
    return {
        "<": Q(**{f"{path}__lt": first}),
        ">=": Q(**{f"{path}__gte": first}),
        "<=": Q(**{f"{path}__lt": last}),
        ">": Q(**{f"{path}__gte": last}),
    }.get(sign, Q(**{f"{path}__gte": first, f"{path}__lt": last}))


def _by_size(column: Column, sign: str, number: float) -> Q:
    # A whole number as such: PostgreSQL compares columns of integers with nothing else by index.
    value = int(number) if number.is_integer() and abs(number) < 2**31 else number
    return column.matches(_LOOKUPS.get(sign, "exact"), value)


_COMPARISONS: dict[str, Callable[[Column, str, Token], Q]] = {
    "text": _text,
    "tag": _tag,
    "status": _status,
    "flag": _flag,
    "number": _number,
    "seconds": _seconds,
    "time": _moment,
}

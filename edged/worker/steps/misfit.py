"""Why a step, or an input, cannot fit a model: words that know which key they are about."""

from __future__ import annotations

from typing import Self


class Misfit(str):
    """`where` is the key among the model's settings, such as `preprocess[1]`."""

    __slots__ = ("where",)
    where: str

    def __new__(cls, where: str, words: str) -> Self:
        made = super().__new__(cls, words)
        made.where = where
        return made

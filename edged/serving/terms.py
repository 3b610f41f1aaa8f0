"""Under which settings a model runs, and what a change of them makes of inputs that came under the ones before.

An input names the form of its payload by number. A process knows the forms of its model's entries by these
numbers and, behind them, those of earlier settings: an input that waits while the settings change is decoded by
the form it came with, under a new number. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edged.channel import Open
from edged.config.schema import Model
from edged.config.steps import Form
from edged.messages import JOINED, Input, pack, unpack
from edged.serving.release import Release

_FORMS: Final = 64  # where earlier settings had more of them, an input with an older one is decoded by its looks


class Terms(msgspec.Struct, frozen=True):
    """One model's settings; `moved[i]` is the number that form `i` of the terms before has now, -1 for none of them."""

    settings: Model
    forms: tuple[Form, ...]
    moved: tuple[int, ...] = ()

    @classmethod
    def of(cls, settings: Model) -> Terms:
        """The first ones."""
        return cls(settings, _forms(settings))

    def changed(self, settings: Model) -> Terms:
        """The terms after these."""
        wanted = _forms(settings)
        older = dict.fromkeys(form for form in self.forms if form not in wanted)
        forms = (*wanted, *older)[: max(_FORMS, len(wanted))]
        moved = tuple(forms.index(form) if form in forms else -1 for form in self.forms)
        return Terms(settings, forms, moved)

    def opening(self, release: Release, threads: int) -> Open:
        """What a process of `release` is told; `threads` is what the settings' come to on this box."""
        settings = release.under(self.settings)
        return Open(
            model=release.model,
            version=release.version,
            file=release.file,
            threads=threads,
            memory=int(settings.limits.memory),
            message_limit=int(settings.limits.message),
            batch_max=settings.batch.max,
            forms=self.forms,
            preprocess=settings.preprocess,
            postprocess=settings.postprocess,
            cpus=settings.cpus,
            result=settings.output.format,
            beside=release.beside,
            providers=settings.providers,
        )

    def renumbered(self, item: Input) -> Input:
        """An input of the terms before, as one of these."""
        if item.form == JOINED:
            parts = [msgspec.structs.replace(one, form=self._now(one.form)) for one in unpack(item.payload)]
            return msgspec.structs.replace(item, payload=pack(parts))
        return msgspec.structs.replace(item, form=self._now(item.form))

    def _now(self, form: int) -> int:
        return self.moved[form] if 0 <= form < len(self.moved) else form

    def renews(self, settings: Model, release: Release) -> bool:
        """Whether a process of `release` under `settings` would be told something else."""
        return _told(self.settings, release) != _told(settings, release)


def _told(settings: Model, release: Release) -> tuple[object, ...]:
    return Terms.of(settings).opening(release, 0), settings.threads, settings.limits.run


def _forms(settings: Model) -> tuple[Form, ...]:
    return tuple(entry.form for entry in settings.inputs)

"""What every table of a plan that fits maps has in common: model, where maps stand and how they are fitted.

Nothing here needs torch, so that a plan with a mistake in it is told at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from audit.cli.plan_table import Name, PlanTable
from audit.lm.subject import Dtype, Subject
from audit.runs.plan import resolve_path
from audit.text.hub import PREFIX

LINEAS = "lineas"
RATES = {"sgd": 0.1, "adam": 1e-3}  # the paper's and the authors' configuration
#: Of gradient descent, which the other methods do without.
_DESCENT = (
    "optimizer", "lr", "final_lr", "steps", "batch", "gamma", "l1", "group", "floor", "microbatch", "checkpointing",
    "check_every", "patience", "forced",
)  # fmt: skip
#: What has nothing to do with a fit.
_LOADING = ("model", "field", "seed", "revision", "dtype", "device", "trust_remote_code")


class FitTable(PlanTable):
    """Model and fit.

    Numbers are those of `unlearn.lineas.config.FitSettings` and `unlearn.lineas.run.Plan`; several gammas are a path.
    Without ``sites`` and ``pooling`` those of the method are taken, without ``loss_sites`` the sites.
    """

    model: Name
    field: Name = "text"
    method: Name = LINEAS

    sites: Name | None = None
    loss_sites: Name | None = None
    pooling: Literal["mean", "last", "max"] | None = None
    skip_bos: bool = False
    max_tokens: int = Field(default=128, ge=2)
    held_out: float = Field(default=0.0, ge=0, lt=1)
    neurons: Literal["sum", "mean"] = "sum"
    over_sites: Literal["sum", "mean"] = "mean"

    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float | None = None
    final_lr: float = 1e-3
    steps: int = 1000
    batch: int = 32
    gamma: tuple[float, ...] = (0.0,)
    l1: float = 1.0
    group: float = 1.0
    floor: float | None = None
    microbatch: int | None = None
    checkpointing: bool = False
    check_every: int = 50
    patience: int | None = None
    forced: bool = False

    seed: int = Field(default=42, ge=0)
    revision: Name | None = None
    dtype: Dtype = "auto"
    device: Name = "auto"
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _fit_fits(self) -> Self:
        strange = [name for name in _DESCENT if name in self.model_fields_set] if self.method != LINEAS else []
        if strange:
            raise ValueError(
                f'{" and ".join(strange)} {"is" if len(strange) == 1 else "are"} of the method "{LINEAS}"; '
                f'"{self.method}" is computed at once. Leave it out.'
            )
        if not self.gamma:
            raise ValueError("gamma is empty; expected one weight, or several for a path.")
        if len(set(self.gamma)) < len(self.gamma):
            raise ValueError("gamma holds one weight twice; give each once.")
        for name, without in (
            ("patience counts looks at held-out sentences", self.patience is not None),
            ("a path of gammas is chosen from by held-out sentences", len(self.gamma) > 1),
        ):
            if without and not self.held_out:
                raise ValueError(f"{name}, and there are none; give held_out, such as 0.25.")
        return self

    @property
    def rate(self) -> float:
        """Learning rate of the first step."""
        return RATES[self.optimizer] if self.lr is None else self.lr

    def subject(self, plan: Path) -> Subject:
        """The model; a folder is looked for beside the plan first."""
        beside = resolve_path(self.model, plan)
        return Subject(
            model=str(beside) if beside.exists() else self.model,
            revision=self.revision,
            dtype=self.dtype,
            device=self.device,
            trust_remote_code=self.trust_remote_code,
        )

    def texts(self, key: str, plan: Path) -> str | Path | None:
        """Where the texts of a key are; a relative path starts at the plan's folder."""
        name: str | None = getattr(self, key)
        return name if name is None or name.startswith(PREFIX) else resolve_path(name, plan)

    def fit_keys(self) -> list[str]:
        """Keys that were set and say how maps are fitted."""
        return [name for name in FitTable.model_fields if name not in _LOADING and name in self.model_fields_set]

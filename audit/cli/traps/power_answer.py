"""What ``palimpsest traps power`` works out, as plain values that JSON can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...progress import Progress
    from ...traps.power.design import Design
    from ...traps.power.simulated import Scores

MOST_SIMULATED = 2_000  # members of an arm, that are simulated unasked: more takes minutes


class Answers:
    """What the two questions share: the tests' settings, and the simulation."""

    def __init__(
        self, settings: dict[str, Any], wanted: float, simulations: int | None, seed: int, progress: Progress
    ) -> None:
        self.settings, self.wanted, self.simulations = settings, wanted, simulations
        self.seed, self.progress = seed, progress

    def needed(self, effect: dict[str, Any], *, strata: int, ratio: float) -> dict[str, Any]:
        """The smallest design for one AUC."""
        from ...traps.power.model import rank_power, rank_power_limit
        from ...traps.power.needed import decoys_needed, members_needed, pairs_needed

        auc, level = effect["auc"], self.settings["alpha"] / self.settings["arms"]
        shown = {name: value for name, value in effect.items() if name != "scores"}
        if auc <= 0.5:
            return {**shown, "why": "an AUC of 0.5 or less is nothing that a test could find"}
        size: dict[str, Any] = {"power": self.wanted, "strata": strata, "decoys_per_member": ratio, **self.settings}
        design = members_needed(auc, **size)
        low = effect["low"]
        cautious = members_needed(low, **size).n_members if low is not None and low > 0.505 else None
        return {
            **shown,
            "design": _record(design),
            "arm_power": self._power(auc, design, effect["scores"]),
            "n_members_at_low": cautious,
            "rank_test": {
                "alpha": self.settings["alpha"],
                "n_decoys": design.decoys[0],
                "power": rank_power(auc, design.decoys[0], alpha=self.settings["alpha"]),
                "most": rank_power_limit(auc, alpha=self.settings["alpha"]),
                "decoys_needed": decoys_needed(auc, power=self.wanted, alpha=self.settings["alpha"]),
            },
            "sign_test": {"alpha": level, "pairs_needed": pairs_needed(auc, power=self.wanted, alpha=level)},
        }

    def seen(self, sized: dict[int | None, Design], effects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What each arm of a design can see."""
        from dataclasses import asdict

        from ...traps.power.model import rank_power
        from ...traps.power.needed import detectable

        answers = []
        for n_rep, design in sized.items():
            fits = [effect for effect in effects if n_rep is None or effect["copies"] in (None, n_rep)]
            record = asdict(detectable(design, powers=tuple(sorted({0.8, 0.9, self.wanted})), **self.settings))
            at = [
                {
                    **{name: value for name, value in effect.items() if name != "scores"},
                    "arm_power": self._power(effect["auc"], design, effect["scores"]),
                    "rank_power": rank_power(effect["auc"], max(design.decoys), alpha=self.settings["alpha"]),
                }
                for effect in fits
            ]
            answers.append({"copies": n_rep, "design": _record(design), "detectable": record, "at": at})
        return answers

    def _power(self, auc: float, design: Design, scores: Scores) -> dict[str, Any]:
        from dataclasses import asdict

        from ...traps.power.model import arm_power
        from ...traps.power.simulated import simulated_power

        computed = arm_power(auc, design, **self.settings)
        n_audits = self.simulations
        if n_audits is None:
            n_audits = 400 if design.n_members <= MOST_SIMULATED else 0
        simulated = None
        if n_audits:
            alpha, arms = self.settings["alpha"], self.settings["arms"]
            simulated = asdict(
                simulated_power(
                    scores, design, alpha=alpha, arms=arms, n_audits=n_audits, rng=self.seed, progress=self.progress
                )
            )
        return {"computed": computed, "simulated": simulated}


def _record(design: Design) -> dict[str, Any]:
    n1, n0 = sorted(set(design.members)), sorted(set(design.decoys))
    return {
        "n_members": design.n_members,
        "n_decoys": design.n_decoys,
        "n_strata": len(design.members),
        "members_per_stratum": [n1[0], n1[-1]],
        "decoys_per_stratum": [n0[0], n0[-1]],
    }

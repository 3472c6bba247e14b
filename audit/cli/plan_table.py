"""What all tables of a plan share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1)]  # an empty path would be the plan's own folder


class PlanTable(BaseModel):
    """A table that refuses keys which it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

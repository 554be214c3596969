"""What is set for one tenant: a `[tenants.NAME]` table of the settings file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TenantSetting(BaseModel):
    """The limits of one tenant, where they are others than everybody's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_pending_lines: int | None = Field(
        None, ge=0, description="`max_pending_lines` of this tenant; 0: any number"
    )

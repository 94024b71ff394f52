"""What a comparison of journal and chain finds. The chain is the truth, the journal is the record."""

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict


class FindingKind(StrEnum):
    """How journal and chain can differ."""

    NOT_ON_CHAIN = "not_on_chain"
    ROOT_DIFFERS = "root_differs"
    COUNTS_DIFFER = "counts_differ"
    HOUSE_DELTA_DIFFERS = "house_delta_differs"
    SIGNATURE_DIFFERS = "signature_differs"
    CHAIN_ONLY = "chain_only"
    BALANCE_DIFFERS = "balance_differs"
    JOURNAL_INCONSISTENT = "journal_inconsistent"


class Finding(BaseModel):
    """One difference. `subject` names the batch or player; `journal` and `chain` show both sides for a person to read."""

    model_config = ConfigDict(frozen=True)

    kind: FindingKind
    subject: str
    journal: str
    chain: str


class ReconciliationReport(BaseModel):
    """One run over one lane. `agreed` only if every batch and balance was compared and nothing differs.

    `open_batches`: how many of the journal's batches are not final yet and so were left out of the comparison.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    lane: int
    at: AwareDatetime
    batches_compared: int
    players_compared: int
    open_batches: int
    findings: tuple[Finding, ...]

    @property
    def agreed(self) -> bool:
        """Whether journal and chain tell the same."""
        return not self.findings

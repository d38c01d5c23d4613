"A test authority and its certificates; another authority that nobody trusts."

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Paper:
    "One certificate with its key, as files."

    cert: Path  # chain
    key: Path


class Authority:
    "A certificate authority of its own."

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = trustme.CA(organization_name=name)
        self.file = folder / f"{name}.pem"
        self.authority.cert_pem.write_to_path(str(self.file))
        self.papers: dict[tuple[str, ...], Paper] = {}

    def paper(self, *names: str) -> Paper:
        "A certificate for host names or addresses."
        if names not in self.papers:
            issued, stem = self.authority.issue_cert(*names), names[0].replace("*", "any")
            paper = Paper(self.folder / f"{stem}.cert.pem", self.folder / f"{stem}.key.pem")
            issued.private_key_pem.write_to_path(str(paper.key))
            for place, blob in enumerate(issued.cert_chain_pems):
                blob.write_to_path(str(paper.cert), append=place > 0)
            self.papers[names] = paper
        return self.papers[names]

"""A contract for import-linter that it does not have itself: a package that needs nothing but Python."""

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class StandardLibraryOnly(Contract):
    """No module of ``package`` imports anything but the package itself and the standard library.

    The built-in "forbidden" contract needs a list of what is forbidden, and such a list is out of date with every new dependency.
    """

    type_name = "standard_library_only"
    package = fields.StringField()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002, FBT001 - the base class's signature
        package = str(self.package)
        allowed = sys.stdlib_module_names | {package}
        modules = {package} | graph.find_descendants(package)
        found = sorted((module, imported) for module in modules for imported in graph.find_modules_directly_imported_by(module))
        illegal = [f"{module} -> {imported}" for module, imported in found if imported.partition(".")[0] not in allowed]
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        metadata: dict[str, Any] = check.metadata
        for line in metadata["illegal"]:
            output.print_error(line, bold=False)

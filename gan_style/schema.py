"""The typed schema of each root config: a mistyped key or a wrong type fails before anything runs."""

from gan_style import schema_search
from gan_style.schema_dataset import MakeDatasetConfig, VerifyDatasetConfig

ROOTS: dict[str, type] = {
    "make_dataset": MakeDatasetConfig,
    "verify_dataset": VerifyDatasetConfig,
    **schema_search.ROOTS,
}

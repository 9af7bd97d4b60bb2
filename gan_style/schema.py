"""The typed schema of the root configs that have no options of their own yet."""

from gan_style.schema_dataset import MakeDatasetConfig, VerifyDatasetConfig

ROOTS: dict[str, type] = {"make_dataset": MakeDatasetConfig, "verify_dataset": VerifyDatasetConfig}

"""The Ansible YAML inventory as a typed model; every error names the path to the fault."""

from raftctl.inventory.load import find_inventory, load_inventory
from raftctl.inventory.model import ClusterInventory, Inventory, InventoryHost

__all__ = ["ClusterInventory", "Inventory", "InventoryHost", "find_inventory", "load_inventory"]

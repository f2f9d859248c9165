"""Work on bytes of strangers, in child processes that have little to lose."""

from haulier.adapters.bounded.limits import Limits as Limits
from haulier.adapters.bounded.processor import BoundedProcessor as BoundedProcessor

"""The board in an Othello model's dictionary: single latents, several together, whole boards, and games played to the end."""

from jaxsae.evaluate.othello.says import summary, table
from jaxsae.evaluate.othello.suite import check, evaluate
from jaxsae.evaluate.othello.targets import FOUND, STATES, board_labels, both_present

__all__ = ["FOUND", "STATES", "board_labels", "both_present", "check", "evaluate", "summary", "table"]

"""The pages of latents: one static folder that opens from disk, with a list to search and a page for each latent."""

from jaxsae.dashboard.pages.folder import INDEX, write_pages

__all__ = ["INDEX", "write_pages"]

"""Terms on decoder rows alone, whatever the batch was: of some of the latents at a time, drawn anew at each step."""

from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp


class RowPenalty(Protocol):
    """A mean over latents of a function of their decoder rows.

    Attributes:
      sample: latents of a shard that it is taken of at a step, at most.
    """

    sample: int

    def term(self, rows: jax.Array, often: jax.Array, opponent: Any) -> jax.Array:
        """[], of decoder rows [R, d_out].

        Args:
          often: [R], how often each latent fires over the average one, at most 1; 1 where nobody asks.
          opponent: what the rows are trained against, see `adversary.py`; or None.
        """
        ...


@flax.struct.dataclass
class Sample:
    """The latents first, first + stride, ... of a shard of `width`, modulo it: `count` of them, all different.

    Of two latents at any distance that the sample spans, some strides hold both.
    """

    first: jax.Array
    stride: jax.Array
    count: int = flax.struct.field(pytree_node=False)
    width: int = flax.struct.field(pytree_node=False)

    @classmethod
    def draw(cls, key: jax.Array, count: int, width: int) -> "Sample":
        count = min(count, width)
        a, b = jax.random.split(key)
        first = jax.random.randint(a, (), 0, width)
        return cls(first, jax.random.randint(b, (), 1, width // count + 1), count, width)

    def rows(self, table: jax.Array) -> jax.Array:
        """[count, d] of a table [width, d]."""
        return table[(self.first + self.stride * jnp.arange(self.count)) % self.width]

    def spread(self, rows: jax.Array, start: jax.Array | int, count: int) -> jax.Array:
        """[count, d]: rows of the sample [R, d] where they belong among the latents from `start` on, 0 elsewhere."""
        place = (start + jnp.arange(count) - self.first) % self.width
        number = place // self.stride
        there = (place % self.stride == 0) & (number < self.count)
        return jnp.where(there[:, None], rows[jnp.minimum(number, self.count - 1)], 0)

"""The changes that bench/mutate makes, and the tests that should notice each of them."""
from mutations import (
    anchor,
    bags,
    commands,
    estimator,
    field,
    fleets,
    frame,
    learning,
    messages,
    models,
    node,
    photographs,
)
from mutations.mutation import Mutation

__all__ = ['MUTATIONS', 'Mutation']

MUTATIONS = (*estimator.MUTATIONS, *frame.MUTATIONS, *messages.MUTATIONS, *bags.MUTATIONS,
             *learning.MUTATIONS, *models.MUTATIONS, *node.MUTATIONS, *anchor.MUTATIONS,
             *fleets.MUTATIONS, *field.MUTATIONS, *commands.MUTATIONS,
             *photographs.MUTATIONS)

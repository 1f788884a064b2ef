"""``runner serve``: the server side of the HTTP work protocol (``outpost.wire.work``)."""

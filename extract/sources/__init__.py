"""Where items come from: folders, archives, Python sequences; each yields :class:`~topwork.extract.item.Item`."""

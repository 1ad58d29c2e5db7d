"""Where pictures come from: folders, tars, lists, object stores and web servers."""

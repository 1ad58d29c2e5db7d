"""Sources of pictures: folders, tars, lists, object stores and web servers."""

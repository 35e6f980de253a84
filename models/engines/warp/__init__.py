"""The default engine: mouth images of the source, selected by shape, warped to target landmarks and blended in YUV."""

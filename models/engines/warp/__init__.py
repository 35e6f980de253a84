"""The default engine: real mouths of the source, found by shape, warped to the target landmarks, blended in YUV."""

"""Families of timm and transformers that have no model in the coverage table, each with the reason."""

_CONVOLUTIONS = "convolutions alone, as other families of the table show them"
_RECURRENT = "recurrent layers, which the dialect lacks"
_ALIAS = "another name of a family, or a part of one, that the table has"
_WRAPPER = "any model of timm, which the table has by itself"
_VIDEO = "takes several images in order"
_TEXT = "takes text or tokens beside the image"
_LARGE = "made of encoders that the table has, at sizes that are no test"
_SAME = "built of the same layers as a family that the table has"

TIMM = {
    **dict.fromkeys(
        (
            "byobnet", "cspnet", "cspnext", "densenet", "dla", "dpn", "efficientnet", "fasternet", "ghostnet", "hardcorenas", "hgnet",
            "hrnet", "inception_next", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2", "nasnet", "nfnet", "pnasnet",
            "rdnet", "regnet", "repghost", "res2net", "resnest", "resnet", "resnetv2", "rexnet", "selecsls", "senet", "sknet", "starnet",
            "tresnet", "vgg", "vovnet", "xception", "xception_aligned",
        ),
        _CONVOLUTIONS,
    ),
    "sequencer": _RECURRENT,
}  # fmt: skip

TRANSFORMERS = {
    **dict.fromkeys(
        (
            "bit", "convnext", "dinov3_convnext", "efficientnet", "hgnet_v2", "mobilenet_v1", "mobilenet_v2", "pp_lcnet", "pp_lcnet_v3",
            "pp_lcnet_v4", "pp_ocrv5_mobile_det", "pp_ocrv5_server_det", "pp_ocrv6_medium_det", "pp_ocrv6_small_det", "regnet", "resnet",
            "rt_detr_resnet", "textnet", "uvdoc_backbone",
        ),
        _CONVOLUTIONS,
    ),
    **dict.fromkeys(("lw_detr_vit", "maskformer-swin", "mlcd_vision_model", "rf_detr_dinov2", "tipsv2", "vitpose_backbone"), _ALIAS),
    **dict.fromkeys(("timm_backbone", "timm_wrapper"), _WRAPPER),
    **dict.fromkeys(
        (
            "edgetam_video", "sam2_video", "sam3_video", "timesformer", "videomae", "videomt", "videoprism_vision_model", "vivit",
        ),
        _VIDEO,
    ),
    **dict.fromkeys(("cohere2_vision", "imagegpt", "mllama", "oneformer", "sam3_tracker", "shieldgemma2", "siglip2"), _TEXT),
    **dict.fromkeys(("chmv2", "depth_pro", "edgetam", "pp_doclayout_v2", "pp_doclayout_v3", "pp_doclayout_v4", "perceiver"), _LARGE),
    **dict.fromkeys(
        ("dab-detr", "deimv2", "eomt_dinov3", "prompt_depth_anything", "table-transformer", "tipsv2_dpt"), _SAME
    ),
    "dinat": "its neighbourhood attention is in a package that transformers no longer takes",
}  # fmt: skip

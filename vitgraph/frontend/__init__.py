"""Where models come from: one file for each source, all answering the questions of `source.Source`.

| spec                    | source                                                                        |
|-------------------------|-------------------------------------------------------------------------------|
| `deit_tiny_patch16_224` | timm, with or without a pretrained tag                                        |
| `torchvision:vit_b_16`  | torchvision's image classifiers                                               |
| `transformers:DIR`      | an image classifier made from `DIR/config.json`                               |
| `package.module:make`   | the user's own function (or class) that returns a module                      |
| `digits-vit`            | the embedded example                                                          |
| an `nn.Module`          | the module itself                                                             |
"""

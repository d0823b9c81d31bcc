"""The items of a claimed scene with what each of them needs."""

from __future__ import annotations

from dataclasses import dataclass

from cbm_core.errors import CbmError
from cbm_extract.engine.areas import Area
from cbm_extract.ledger.states import FILL, FULL, Item
from cbm_extract.products.definition import Product
from cbm_extract.store.products import Registered
from cbm_extract.store.work import SceneRow


@dataclass
class Job:
    """An item while it is worked on; ``error`` is why it cannot be done, None so far."""

    item: Item
    product: Product
    product_hash: bytes
    area: Area
    error: CbmError | None = None

    @classmethod
    def of(cls, item: Item, registered: Registered) -> Job:
        """Make the job of an item."""
        product = registered.product
        beyond = item.scope in {FILL, FULL}
        area = Area(
            item.dataset_id,
            0 if beyond else item.parcel_set_id,
            product.buffer_m,
            product.tiles == "home",
            stored_of=item.product_id if beyond and item.parcel_set_id else None,
            again=item.scope == FULL and item.parcel_set_id > 0,
        )
        return cls(item, product, registered.hash, area)

    @property
    def scope(self) -> str:
        """What its run is in the evidence: the first one of an item is full."""
        return self.item.scope if self.item.parcel_set_id else FULL

    def missing_bands(self, scene: SceneRow) -> tuple[str, ...]:
        """Return the bands the product reads that the scene does not have."""
        return tuple(band for band in self.product.reads if band not in scene.assets)

    def reads(self, scene: SceneRow) -> tuple[str, ...]:
        """Return all bands to be read for it, the class band included."""
        product = self.product
        wanted = [*product.reads, *([product.class_band] if product.class_band else [])]
        return tuple(band for band in wanted if band in scene.assets)

    def check(self, scene: SceneRow) -> None:
        """Refuse what would come out as nothing, or unmasked, without a word.

        Raises:
            CbmError: ``no_bands`` when the scene has none of the product's bands,
                ``class_band_missing`` when the product masks classes the scene does not have.

        """
        product = self.product
        if len(self.missing_bands(scene)) == len(product.reads):
            raise CbmError(
                "no_bands",
                f"{scene.name} has none of the bands of product {product.name}"
                f" ({', '.join(product.reads)}); it has {', '.join(scene.assets) or 'none'}.",
                "Name the scene's bands as the card does when cataloguing it, then retry.",
            )
        if product.mask_classes and product.class_band not in scene.assets:
            raise CbmError(
                "class_band_missing",
                f"{scene.name} has no {product.class_band}, which product {product.name} masks by.",
                "Catalogue the scene with it, or extract a product without a mask.",
            )

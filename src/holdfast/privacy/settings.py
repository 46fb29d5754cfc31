"""[privacy] of `holdfast.toml`."""

from holdfast.privacy.sealing import ciphers
from holdfast.privacy.sealing.master import MasterKeySettings
from holdfast.settings import Settings


class PrivacySettings(Settings, frozen=True, kw_only=True):
    """[privacy]: how what people say is kept from those who have no business with it."""

    seal: bool | None = None
    """Whether requests and replies are encrypted in the log. Default: if the extra `custody` is installed."""
    master_key: MasterKeySettings | None = None
    """The key that wraps the keys of subjects. Default: `master.key` beside the log, made at the first start."""

    def sealing(self) -> bool:
        """Whether to seal. Raises ValueError where that is asked for, and the extra is not installed."""
        if self.seal and not ciphers.available():
            raise ValueError('sealing needs the package "cryptography": pip install "holdfast[custody]"')
        return ciphers.available() if self.seal is None else self.seal

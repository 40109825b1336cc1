"""A key that may use some models only, and from where it was used."""

from tests.e2e.conftest import House
from tests.installation import until


def test_a_key_with_models_of_its_own_sees_and_uses_no_others(house: House) -> None:
    caller = house.account()
    house.installation.python(
        "from keys.lifecycle import allow_models; from keys.models import APIKey; from pricing.models import Model; "
        f"allow_models(APIKey.objects.get(client_id={caller.id}), [Model.objects.get(name='sandbox')])"
    )

    def names() -> set[str]:
        return {model["id"] for model in caller.models().json()["data"]}

    until(lambda: names() == {"sandbox"}, 5, "the list of its models")
    assert caller.call("sandbox").status == 200
    refused = caller.call("gpt-4o-mini")
    assert (refused.status, refused.code) == (404, "model_not_found")
    house.installation.python(
        "from keys.lifecycle import allow_models; from keys.models import APIKey; "
        f"allow_models(APIKey.objects.get(client_id={caller.id}), [])"
    )
    until(lambda: caller.call("gpt-4o-mini").status == 200, 5, "all models again")


def test_a_key_tells_from_where_and_by_what_it_was_used_last(house: House) -> None:
    caller = house.account()
    caller.call(headers={"user-agent": "n8n/1.99 \u00e9"})
    use = until(
        lambda: house.installation.sql(
            "SELECT u.last_address, u.last_user_agent FROM keys_keyuse u JOIN keys_apikey k ON k.id = u.key_id "
            "WHERE k.client_id = ?",
            caller.id,
        ),
        10,
        "the use of the key",
    )
    assert use[0]["last_address"] == "127.0.0.1"
    assert use[0]["last_user_agent"].startswith("n8n/1.99 ")
    assert use[0]["last_user_agent"].isascii()

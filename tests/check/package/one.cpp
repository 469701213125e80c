/* SPDX-License-Identifier: Apache-2.0
 *
 * The same in C++17, through the CMake package: guarantees that the headers are C++ and that
 * both salvo::salvo and salvo::salvo_static link into a program that is not the project's.
 */
#include <iostream>
#include <salvo/reader.h>
#include <salvo/salvo.h>
#include <string>

namespace
{
void check(const char *what, int err)
{
    if (err != SALVO_OK) {
        std::cerr << what << ": " << salvo_strerror(err) << " (" << salvo_last_error() << ")\n";
        std::exit(1);
    }
}
} // namespace

int main()
{
    const std::string value = "hello";
    salvo_config *config = nullptr;
    salvo *producer = nullptr;
    salvo_topic topic = 0;
    salvo_close_report report = {};
    check("config", salvo_config_new(&config));
    check("broker", salvo_config_set(config, "message_broker", "memory"));
    check("open", salvo_open(config, nullptr, &producer));
    check("topic", salvo_topic_open(producer, "greetings", nullptr, &topic));
    check("send", salvo_send_fire_and_forget(producer, topic, nullptr, 0, value.data(),
                                             value.size()));
    check("flush", salvo_flush(producer, 10000));
    check("close", salvo_close(producer, 10000, &report));
    salvo_config_free(config);
    std::cout << report.ledger.acknowledged << " acknowledged\n";
    return report.ledger.acknowledged == 1 ? 0 : 1;
}
